"""Decoding with a cache, held against the model's own forward pass and against the other side."""
