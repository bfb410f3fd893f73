"""Keys that are turned by rotary positions: by how much, and turned further."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from twingrad.decoding.runner import Path
from twingrad.foreign import Array

_SAME = 1e-9  # relative: how near to one rotation the numbers must be


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A rotation of the last axis by pairs, the same everywhere else.

    ``angles`` [D/2] are in radians; pairs are neighbours, or of the two halves.
    """

    neighbours: bool
    angles: Array


def turned(x: Array, y: Array) -> Turn | None:
    """The rotation that makes ``y`` of ``x`` [..., D], where there is one that is none by zero.

    Of several layers in one array, [L, ..., D], it is that of the first.
    """
    if x.shape != y.shape or x.ndim < 2 or x.shape[-1] % 2 or not x.shape[-1]:
        return None
    for first, second in ((x, y), (x[0], y[0])):
        for neighbours in (False, True):
            a, b = _pairs(first, neighbours), _pairs(second, neighbours)
            a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
            angles = np.angle((np.conj(a) * b).sum(axis=0))
            gap = np.abs(a * np.exp(1j * angles) - b).max()
            if gap <= _SAME * np.abs(b).max() and np.abs(angles).max() > _SAME:
                return Turn(neighbours=neighbours, angles=angles)
    return None


def turn(x: Array, axis: int, until: int, by: Turn) -> Array:
    """An array of a cache whose entries before ``until`` along ``axis`` are turned."""
    moved = np.moveaxis(np.array(x), axis, 0)
    pairs = _pairs(moved[:until], by.neighbours) * np.exp(1j * by.angles)
    parts = (pairs.real, pairs.imag)
    if by.neighbours:
        moved[:until] = np.stack(parts, axis=-1).reshape(moved[:until].shape)
    else:
        moved[:until] = np.concatenate(parts, axis=-1)
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))


def _pairs(x: Array, neighbours: bool) -> Array:
    """The numbers of the last axis by pairs, as complex numbers."""
    half = x.shape[-1] // 2
    one, other = (x[..., ::2], x[..., 1::2]) if neighbours else (x[..., :half], x[..., half:])
    pairs: Array = one + 1j * other
    return pairs


def family(path: Path, paths: Mapping[Path, int]) -> Iterator[list[Path]]:
    """Sets of arrays that may be the keys of all layers, if the one at ``path`` is of one.

    Their paths differ in one word.
    """
    for place in range(len(path)):
        others = [
            p
            for p in paths
            if len(p) == len(path)
            and all(a == b for n, (a, b) in enumerate(zip(p, path, strict=True)) if n != place)
        ]
        if len(others) > 1:
            yield others
    yield [path]
