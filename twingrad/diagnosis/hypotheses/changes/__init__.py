"""Causes that are tried out: one operation of PyTorch's changed, and its module run again."""
