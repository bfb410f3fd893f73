"""One side's decoding functions, as calls of NumPy arrays that a check can make."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from twingrad.foreign import Array, Tree

Path = tuple[str, ...]
NO_SHIFT: Mapping[str, int] = {}


class Runner(Protocol):
    """A model that decodes. What it keeps in itself is gone with the runner."""

    @property
    def integers(self) -> Mapping[str, list[Array]]:
        """By module, the integers that it was given during the last step."""

    def forward(self, tokens: Array) -> Array:
        """Logits [B, T, V] without a cache."""

    def cache(self, rows: int, length: int) -> Tree:
        """An empty cache."""

    def step(
        self, tokens: Array, cache: Tree, position: int, shift: Mapping[str, int] = NO_SHIFT
    ) -> tuple[Array, Tree]:
        """Logits [B, T, V] or [B, 1, V], and the cache, which may be changed in place.

        ``shift`` is added to the integers that a module is given, by its path.
        """

    def leaves(self, cache: Tree) -> dict[Path, Array]:
        """Copies of the cache's arrays of numbers, by their paths."""

    def filled(self, cache: Tree, values: Mapping[Path, Array]) -> Tree:
        """A copy of ``cache`` that holds ``values`` where there are some."""


def two_of(result: Tree) -> tuple[Tree, Tree]:
    """What a step returned; ``ValueError`` if it is not logits and a cache."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(
            f"step returned a {type(result).__name__}: expected a tuple of logits and the cache"
        )
    return result[0], result[1]


def only_logits(output: Tree) -> Tree:
    """Logits of what a model returned: an object that has them, the first of several, or all."""
    found = getattr(output, "logits", None)
    if found is not None:
        return found
    return output[0] if isinstance(output, tuple | list) else output


def with_positions(logits: Array, tokens: Array, what: str) -> Array:
    """``logits`` as [B, T, V], or [B, 1, V] of the last token; ``ValueError`` for other shapes."""
    rows, count = tokens.shape[:2]
    shown = logits[:, None] if logits.ndim == 2 else logits
    is_whole = what == "forward"
    if (
        shown.ndim != 3
        or shown.shape[0] != rows
        or shown.shape[1] not in ((count,) if is_whole else (count, 1))
    ):
        last = "" if is_whole else ", or of the last one alone"
        raise ValueError(
            f"{what} returned logits of shape {logits.shape} for tokens of shape {tokens.shape}: "
            f"expected ({rows}, {count}, vocabulary){last}"
        )
    return shown


def time_axes(runner: Runner, rows: int, length: int) -> dict[Path, int]:
    """For each array of a cache the axis of positions: the one that is longer in a longer cache."""
    shapes = [
        {path: x.shape for path, x in runner.leaves(runner.cache(rows, n)).items()}
        for n in (length, length + 1)
    ]
    axes = {}
    for path, shape in shapes[0].items():
        longer = shapes[1].get(path, ())
        if len(longer) == len(shape):
            apart = [n for n, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b]
            if len(apart) == 1 and shape[apart[0]] == length:
                axes[path] = apart[0]
    return axes


def entry(x: Array, axis: int, slot: int) -> Array:
    """What an array of a cache has at one position."""
    taken: Array = np.take(x, slot, axis)
    return taken


def with_entry(x: Array, axis: int, slot: int, value: Array) -> Array:
    """A copy of ``x`` with ``value`` at one position."""
    changed = np.array(x)
    np.moveaxis(changed, axis, 0)[slot] = value
    return changed
