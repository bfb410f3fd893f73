"""Dropout of the same units in both frameworks, in JAX.

Each framework's own dropout has a generator of its own, and no seed makes the two agree. Here the
mask is a function of a key, and both frameworks use the same keys at every step.
"""

from collections.abc import Hashable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Bool, Float, UInt32

from shared import threefry


class _DropoutKey(nnx.Variable):
    """The two words of a key: state of the model, so that jit takes it as an argument."""


class MatchedDropout(nnx.Dropout):
    """Dropout by ``key``: the same key drops the same units, in every dtype, on every device."""

    def __init__(self, rate: float):
        super().__init__(rate)
        self.key = _DropoutKey(jnp.zeros(2, jnp.uint32))

    def __call__(self, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
        if self.deterministic or self.rate == 0:
            return x
        return jnp.where(self.dropped(x), 0.0, x / (1 - self.rate))

    def dropped(self, x: Float[Array, "*S"]) -> Bool[Array, "*S"]:
        """Mask of the elements of ``x`` that are dropped."""
        # Not `bernoulli`: it draws 64 bits an element under x64, and so other units in float64.
        words = jax.random.bits(_key(self.key[...], "threefry2x32"), x.shape, jnp.uint32)
        return words >> 8 < threefry.threshold(self.rate)


def match(model: nnx.Module) -> None:
    """Replace every dropout layer of ``model`` that drops anything by a ``MatchedDropout``.

    The others lose their random streams, which a compiled step would be handed for nothing.
    """
    modules = {_name(path): module for path, module in nnx.iter_modules(model)}
    for name, dropout in modules.items():
        if isinstance(dropout, nnx.Dropout):
            parent, _, attribute = name.rpartition(".")
            matched = MatchedDropout(dropout.rate) if dropout.rate > 0 else nnx.Dropout(0.0)
            setattr(modules[parent], attribute, matched)


def sites(model: nnx.Module) -> list[str]:
    """Names of the dropout layers that drop anything, in the order of their keys."""
    modules = nnx.iter_modules(model)
    return sorted(
        _name(path)
        for path, module in modules
        if isinstance(module, nnx.Dropout) and module.rate > 0
    )


def set_keys(model: nnx.Module, keys: UInt32[Array, "S 2"]) -> None:
    """Seed the dropout of one pass: each layer, by JAX's faster generator if not matched."""
    modules = {_name(path): module for path, module in nnx.iter_modules(model)}
    for name, key in zip(sites(model), keys, strict=True):
        layer = modules[name]
        if isinstance(layer, MatchedDropout):
            layer.key.set_value(key)
        else:
            # Each layer has a stream of its own, since no generator serves them all.
            layer.rngs.key.set_value(_key(jnp.tile(key, 2), "rbg"))
            layer.rngs.count.set_value(jnp.zeros((), jnp.uint32))


def _key(words: UInt32[Array, "N"], generator: str) -> Array:
    return jax.random.wrap_key_data(words, impl=generator)


def _name(path: tuple[Hashable, ...]) -> str:
    return ".".join(map(str, path))
