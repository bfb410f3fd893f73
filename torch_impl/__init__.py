"""The programs in idiomatic PyTorch; every file has its twin in ``jax_impl``."""
