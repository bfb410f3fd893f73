"""Pairs of parameters of a PyTorch and a JAX model, and the order of their axes.

What people write differs in three ways: names (``weight``, ``kernel``), axes (a PyTorch ``Linear``
keeps (out, in), a Flax kernel (in, out)), and prefixes. Names and shapes settle most; what they
leave open has to be stated, and is never guessed.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from twingrad.foreign import Array

# Names of a layer's parameters in either framework, as one.
_LEAVES = {
    "weight": "weight",
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "running_mean": "mean",
    "running_var": "variance",
    "var": "variance",
}
# Layers of PyTorch's world whose two-dimensional weights have the axes of JAX's.
_AS_IS = ("Embedding", "Conv1D", "EmbeddingBag")
# Torch's tensor, an axis-0 slice of it, or nothing where JAX has no such parameter.
Stated = str | list[str | None] | None


@dataclass(frozen=True)
class Leaf:
    """A parameter, or a running statistic: its path, shape, and the class of its owner."""

    path: str
    shape: tuple[int, ...]
    owner: str = ""


@dataclass(frozen=True)
class Partner:
    """A JAX parameter as a part of a PyTorch one.

    Part ``part`` of ``parts`` along the first axis, its axes in the order ``axes``, in ``shape``.
    """

    torch: str
    jax: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    part: int = 0
    parts: int = 1

    def to_jax(self, value: Array) -> Array:
        """The JAX tensor that holds the same numbers as PyTorch's ``value``."""
        size = value.shape[0] // self.parts if self.parts > 1 else 0
        piece = value[self.part * size : (self.part + 1) * size] if size else value
        return np.ascontiguousarray(piece.transpose(self.axes)).reshape(self.shape)

    def to_torch(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The JAX tensor in the layout of its part of the PyTorch one, whose shape is ``shape``."""
        if self.parts > 1:
            shape = (shape[0] // self.parts, *shape[1:])
        inner = [shape[axis] for axis in self.axes]
        return value.reshape(inner).transpose(np.argsort(self.axes))

    def piece(self, value: Array) -> Array:
        """This part of a PyTorch tensor, in its own layout."""
        if self.parts == 1:
            return value
        size = value.shape[0] // self.parts
        return value[self.part * size : (self.part + 1) * size]

    @property
    def name(self) -> str:
        """PyTorch's name, with the part where it is one of several."""
        return self.torch if self.parts == 1 else f"{self.torch}[{self.part}/{self.parts}]"


def match(
    torch: Iterable[Leaf], jax: Iterable[Leaf], stated: Mapping[str, Stated] | None = None
) -> list[Partner]:
    """Every JAX parameter with its PyTorch partner.

    Raises ``ValueError`` naming what has no partner, or more than one candidate.
    """
    torch_leaves = {leaf.path: leaf for leaf in torch}
    jax_leaves = {leaf.path: leaf for leaf in jax}
    partners, alone = _stated(torch_leaves, jax_leaves, stated or {})
    jax_done = {partner.jax for partner in partners}
    torch_done = {partner.torch for partner in partners} | alone
    for rule in (_same_path, _same_ending, _only_shape):
        torch_left = [leaf for leaf in torch_leaves.values() if leaf.path not in torch_done]
        jax_left = [leaf for leaf in jax_leaves.values() if leaf.path not in jax_done]
        for torch_leaf, jax_leaf in _mutual(torch_left, jax_left, rule):
            partners.append(_partner(torch_leaf, jax_leaf))
            torch_done.add(torch_leaf.path)
            jax_done.add(jax_leaf.path)
    missing = [leaf for leaf in torch_leaves.values() if leaf.path not in torch_done]
    spare = [leaf for leaf in jax_leaves.values() if leaf.path not in jax_done]
    if missing or spare:
        raise ValueError(_complaint(missing, spare, torch_leaves, jax_leaves))
    order = {path: place for place, path in enumerate(torch_leaves)}
    return sorted(partners, key=lambda partner: (order[partner.torch], partner.part))


def _stated(
    torch: Mapping[str, Leaf], jax: Mapping[str, Leaf], stated: Mapping[str, Stated]
) -> tuple[list[Partner], set[str]]:
    partners: list[Partner] = []
    alone: set[str] = set()
    for name, value in stated.items():
        if name not in torch:
            raise ValueError(f"names has {name!r}, which the PyTorch model has not: {_some(torch)}")
        parts = value if isinstance(value, list) else [value]
        if all(part is None for part in parts):
            alone.add(name)
        for number, path in enumerate(parts):
            if path is None:
                continue
            if path not in jax:
                raise ValueError(f"names has {path!r}, which the JAX model has not: {_some(jax)}")
            partners.append(_partner(torch[name], jax[path], number, len(parts)))
    return partners, alone


def _partner(torch: Leaf, jax: Leaf, part: int = 0, parts: int = 1) -> Partner:
    shape = torch.shape
    if parts > 1:
        if not shape or shape[0] % parts:
            raise ValueError(
                f"names cuts {torch.path} of shape {shape} into {parts} parts: its first axis does "
                "not divide by that"
            )
        shape = (shape[0] // parts, *shape[1:])
    axes = _axes(Leaf(torch.path, shape, torch.owner), jax)
    if axes is None:
        raise ValueError(
            f"names pairs {torch.path} of shape {shape} with {jax.path} of shape {jax.shape}: "
            "no order of the axes makes one the other"
        )
    return Partner(torch.path, jax.path, axes, jax.shape, part, parts)


def _axes(torch: Leaf, jax: Leaf) -> tuple[int, ...] | None:
    """In which order JAX keeps the axes of PyTorch's tensor; ``None`` if it cannot hold it."""
    rank = len(torch.shape)
    kernel = jax.path.rpartition(".")[2] in ("kernel", "weight", "w") or rank > 2
    plain = torch.owner in _AS_IS or not kernel or rank < 2
    # (out, in, *window) becomes (*window, in, out).
    turned = (*range(2, rank), 1, 0) if rank >= 2 else tuple(range(rank))
    straight = tuple(range(rank))
    for axes in (straight, turned) if plain else (turned, straight):
        if _holds([torch.shape[axis] for axis in axes], jax.shape):
            return axes
    return None


def _holds(inner: list[int], outer: tuple[int, ...]) -> bool:
    """Whether ``outer`` is ``inner``, or cuts its axes up, as heads are cut out of a width."""
    if list(outer) == inner:
        return True
    return len(outer) > len(inner) > 0 and math.prod(outer) == math.prod(inner) > 0


def _mutual(
    left: list[Leaf], free: list[Leaf], rule: Callable[[Leaf, Leaf], int]
) -> list[tuple[Leaf, Leaf]]:
    """Pairs that the rule ranks first for both, alone."""
    fits = [(a, b, rule(a, b)) for a in left for b in free if _axes(a, b) is not None]
    best: dict[tuple[str, str], int] = {}
    for a, b, rank in fits:
        for key in (("torch", a.path), ("jax", b.path)):
            best[key] = max(best.get(key, 0), rank)
    tops = [
        (a, b)
        for a, b, rank in fits
        if rank and rank == best["torch", a.path] and rank == best["jax", b.path]
    ]
    torch_paths = [a.path for a, _ in tops]
    jax_paths = [b.path for _, b in tops]
    return [(a, b) for a, b in tops if torch_paths.count(a.path) == jax_paths.count(b.path) == 1]


def _same_path(a: Leaf, b: Leaf) -> int:
    return int(words(a.path) == words(b.path))


def _same_ending(a: Leaf, b: Leaf) -> int:
    """How many of the last words agree; the leaf's own and its layer's must."""
    common = 0
    for word, other in zip(reversed(words(a.path)), reversed(words(b.path)), strict=False):
        if word != other:
            break
        common += 1
    return common if common > 1 else 0


def _only_shape(a: Leaf, b: Leaf) -> int:
    return int(words(a.path)[-1] == words(b.path)[-1])


def words(path: str) -> list[str]:
    """A path as words that both frameworks would use: ``layers_0/kernel`` is layers, 0, weight."""
    parts = [part for part in re.split(r"[./_]", path) if part]
    leaf = re.split(r"[./]", path)[-1]
    if leaf in _LEAVES:
        parts = [part for part in re.split(r"[./_]", path[: -len(leaf)]) if part] + [_LEAVES[leaf]]
    return [part.lower() for part in parts]


def _some(leaves: Mapping[str, Leaf]) -> str:
    names = [f"{leaf.path} {leaf.shape}" for leaf in leaves.values()]
    return "it has " + (", ".join(names[:8]) or "none") + (", ..." if len(names) > 8 else "")


def _complaint(
    missing: list[Leaf], spare: list[Leaf], torch: Mapping[str, Leaf], jax: Mapping[str, Leaf]
) -> str:
    def listed(leaves: list[Leaf]) -> str:
        names = ", ".join(f"{leaf.path} {leaf.shape}" for leaf in leaves[:4])
        return names + (f" and {len(leaves) - 4} more" if len(leaves) > 4 else "")

    parts = []
    if missing:
        parts.append(f"no partner was found in JAX for {listed(missing)}")
    if spare:
        parts.append(f"none in PyTorch for {listed(spare)}")
    counts = f"PyTorch has {len(torch)} parameters, JAX {len(jax)}"
    return (
        f"{counts}: {'; '.join(parts)}; say which is which with names={{'torch.name': 'jax.name'}}"
    )
