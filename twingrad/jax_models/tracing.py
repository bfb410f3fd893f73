"""Calls of modules inside JAX's transformations, and their tensors as the pass has them.

A handler of calls computes at the level at which the pass began. Inside ``jax.vmap`` a tensor lacks
the batch's axis: ``whole`` puts it in front again. Inside a compiled function, a scan or a
checkpoint there is no way out, so ``inlined`` runs these as plain Python.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.extend.core import get_opaque_trace_state

from twingrad.foreign import ModuleCall, Tree, Untyped

Change = Callable[[list[jax.Array]], list[jax.Array]]
# Longer loops stay as they are: unrolled, they would take too long to compile.
MOST_STEPS = 64
_BEGAN: ContextVar[object] = ContextVar("began", default=None)


def _level() -> object:
    """The level of tracing that JAX is at."""
    return get_opaque_trace_state(convention="flax")  # type: ignore[no-untyped-call]


@contextmanager
def beginning() -> Iterator[None]:
    """Within, the level of tracing at which this was entered is that of the pass."""
    token = _BEGAN.set(_level())
    try:
        yield
    finally:
        _BEGAN.reset(token)


def _at_the_beginning() -> bool:
    return bool(_level() == _BEGAN.get())


def _is_mapped(x: object) -> bool:
    """Whether ``x`` is a tensor inside ``jax.vmap``, of which JAX has no public test."""
    return type(x).__name__ == "BatchTracer"


def within_reach(args: Tree) -> bool:
    """Whether ``whole`` can see the tensors among ``args``."""
    if _at_the_beginning():
        return True
    mapped = [x for x in jax.tree_util.tree_leaves(args) if _is_mapped(x)]
    return whole(lambda tensors: tensors, mapped[:1]) is not None


def whole(change: Change, tensors: Sequence[jax.Array]) -> list[jax.Array] | None:
    """``change`` of the tensors, done where the pass began; ``None`` if they are out of its reach.

    Each tensor has the axes of the ``vmap``s around the call in front, the outermost first, and
    ``change`` returns as many of the same shapes.
    """
    if _at_the_beginning():
        return change(list(tensors))
    if not tensors or not all(map(_is_mapped, tensors)):
        return None
    results: list[list[jax.Array] | None] = []

    @custom_vmap
    def same(*xs: jax.Array) -> list[jax.Array]:
        return list(xs)

    @same.def_vmap
    def outside(size: int, mapped: Sequence[bool], *xs: jax.Array) -> Tree:
        full = [
            x if has_axis else jnp.broadcast_to(x, (size, *x.shape))
            for x, has_axis in zip(xs, mapped, strict=True)
        ]
        results.append(whole(change, full))
        return results[-1] or full, [True] * len(full)

    changed = same(*tensors)
    return list(changed) if results and results[-1] is not None else None


@contextmanager
def inlined() -> Iterator[None]:
    """Within, compiled functions, checkpoints and scans of few steps run as plain Python."""
    module: Untyped = jax
    before = module.lax.scan, module.checkpoint, module.remat
    module.lax.scan = _unrolled(module.lax.scan)
    module.checkpoint = module.remat = _as_it_is
    try:
        with jax.disable_jit():
            yield
    finally:
        module.lax.scan, module.checkpoint, module.remat = before


def _as_it_is(function: ModuleCall | None = None, **options: Tree) -> ModuleCall:
    return function if function is not None else lambda wrapped: wrapped


def _unrolled(scan: ModuleCall) -> ModuleCall:
    @wraps(scan)
    def unrolled(
        f: ModuleCall, init: Tree, xs: Tree = None, length: int | None = None, *args: Tree,
        reverse: bool = False, **options: Tree,
    ) -> tuple[Tree, Tree]:  # fmt: skip
        sizes = [x.shape[0] for x in jax.tree_util.tree_leaves(xs)]
        steps = int(sizes[0] if sizes else length or 0)
        if args or not 0 < steps <= MOST_STEPS:
            with jax.disable_jit(False):
                return scan(f, init, xs, length, *args, reverse=reverse, **options)  # type: ignore[no-any-return]
        carry, outputs = init, []
        for step in reversed(range(steps)) if reverse else range(steps):
            carry, output = f(carry, jax.tree_util.tree_map(lambda x, at=step: x[at], xs))
            outputs.append(output)
        if reverse:
            outputs.reverse()
        return carry, jax.tree_util.tree_map(lambda *each: jnp.stack(each), *outputs)

    return unrolled
