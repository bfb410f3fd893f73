"""The programs in idiomatic JAX and Flax NNX; every file has its twin in ``torch_impl``."""
