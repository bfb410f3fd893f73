"""The phrasebook: daily idioms of PyTorch, each beside the same in JAX, and what they cost."""
