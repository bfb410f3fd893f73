"""Models drawn at random, each written in PyTorch and in one of the ways to write JAX."""
