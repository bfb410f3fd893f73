"""Kinds of JAX models: Flax NNX, Linen, Equinox, Haiku, and plain functions of parameters."""
