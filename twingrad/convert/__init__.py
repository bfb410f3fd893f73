"""Checkpoints of PyTorch's as JAX reads them, and back, by the map of a pair's parameters."""
