"""A JAX model of any kind that decodes."""

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from twingrad.calls import Key
from twingrad.decode import Decode
from twingrad.decoding.runner import NO_SHIFT, Path, only_logits, two_of, with_positions
from twingrad.foreign import Array, ModuleCall, Tree
from twingrad.jax_models.model import is_float, keys
from twingrad.jax_probe import Subject
from twingrad.numerics import plain

T = TypeVar("T")


def within(subject: Subject, decode: Decode, use: "Callable[[JaxRunner], T]") -> T:
    """The result of ``use``, given a runner of the model as its adapter puts it together."""
    results: list[T] = []
    runner = JaxRunner(subject, decode)

    def run(*model: Tree) -> jax.Array:
        runner.model = model[0] if len(model) == 1 else model
        results.append(use(runner))
        return jnp.zeros(())  # in the place of a loss

    subject.run(subject.tensors, run, (), runner.watch)
    return results[0]


class JaxRunner:
    """Decoding of a JAX model, as calls of arrays, operation by operation."""

    def __init__(self, subject: Subject, decode: Decode):
        self.subject, self.decode = subject, decode
        self.model: Tree = None
        self.integers: dict[str, list[Array]] = {}
        self.shift: Mapping[str, int] = NO_SHIFT

    def forward(self, tokens: Array) -> Array:
        """Logits [B, T, V] without a cache."""
        (given,) = self.subject.batch([tokens])
        if self.decode.forward is not None:
            logits = self.decode.forward(self.model, given)
        elif isinstance(self.model, tuple):
            logits = only_logits(self.model[0](given, *self.model[1:]))
        else:
            logits = only_logits(self.model(given))
        return with_positions(plain(logits), tokens, "forward")

    def cache(self, rows: int, length: int) -> Tree:
        """An empty cache, its floating-point numbers in the dtype under test."""
        return self.subject.model.cast_floats(self.decode.cache(self.model, rows, length))

    def step(
        self, tokens: Array, cache: Tree, position: int, shift: Mapping[str, int] = NO_SHIFT
    ) -> tuple[Array, Tree]:
        """Logits and the cache after these tokens."""
        self.integers, self.shift = {}, shift
        try:
            (given,) = self.subject.batch([tokens])
            logits, cache = two_of(self.decode.step(self.model, given, cache, position))
        finally:
            self.shift = NO_SHIFT
        return with_positions(plain(logits), tokens, "step"), cache

    def watch(self, key: Key, call: ModuleCall, args: Tree, kwargs: Tree) -> Tree:
        """One call of a module: its integers are kept, and shifted where that was asked for."""
        flat, form = jax.tree_util.tree_flatten((args, kwargs))
        if not key.path:  # the model itself
            return call(*args, **kwargs)
        known = [np.asarray(x) for x in flat if _is_integer(x) and not _is_traced(x)]
        self.integers.setdefault(key.path, []).extend(known)
        by = self.shift.get(key.path, 0)
        if by:
            flat = [x + by if _is_integer(x) else x for x in flat]
        args, kwargs = jax.tree_util.tree_unflatten(form, flat)
        return call(*args, **kwargs)

    def leaves(self, cache: Tree) -> dict[Path, Array]:
        """Copies of the cache's arrays of numbers."""
        return {
            keys(path): plain(x).copy()
            for path, x in jax.tree_util.tree_flatten_with_path(cache)[0]
            if is_float(x)
        }

    def filled(self, cache: Tree, values: Mapping[Path, Array]) -> Tree:
        """A copy of ``cache`` that holds ``values``."""

        def value(path: tuple[object, ...], x: Tree) -> Tree:
            known = values.get(keys(path))
            if known is not None:
                return jnp.asarray(known, x.dtype)
            return x if isinstance(x, jax.Array) else copy.deepcopy(x)

        return jax.tree_util.tree_map_with_path(value, cache)


def _is_integer(x: Tree) -> bool:
    if hasattr(x, "dtype"):
        return bool(jnp.issubdtype(x.dtype, jnp.integer))
    return isinstance(x, int) and not isinstance(x, bool)


def _is_traced(x: Tree) -> bool:
    return isinstance(x, jax.core.Tracer)
