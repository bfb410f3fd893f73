"""Parameters of both models, and which numbers of the one are which of the other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from twingrad.foreign import Array
from twingrad.map import Shape, Step, shapes

# How a weight lies: rows of a table, (out, in, *window), (*window, in, out), (in, out, *window) as
# PyTorch's transposed convolutions have it, or not known.
Layout = Literal["", "table", "out in", "in out", "in out window"]
Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Leaf:
    """A parameter, or a part of the state: its path and shape, and the layer that it belongs to.

    ``owner`` is the layer's class, ``layout`` how that class keeps its weights, if it is a
    library's own. What is ``optional`` needs no partner.
    """

    path: str
    shape: Shape
    owner: str = ""
    optional: bool = False
    layout: Layout = ""


@dataclass(frozen=True)
class Range:
    """A part of a tensor along an axis: ``[start, stop)``, or the one at ``start`` of a stack."""

    axis: int
    start: int
    stop: int | None

    def of(self, x: Array) -> Array:
        """This part of ``x``, a view."""
        return x[self.index]

    @cached_property
    def index(self) -> "tuple[slice[int | None, int | None, None] | int, ...]":
        """What NumPy takes it by."""
        inner = self.start if self.stop is None else slice(self.start, self.stop)
        return (*(slice(None),) * self.axis, inner)


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Numbers that a PyTorch parameter and a JAX one have in common.

    They are all of PyTorch's tensor, or ``cut`` out of it as part ``part`` of ``parts``; ``added``
    are others whose sum with it JAX keeps. ``steps`` make of them, whose shape is ``shape``, what
    JAX has, which is all of its tensor or lies at ``place``. ``others`` are steps that would do as
    well, where that is not settled yet.
    """

    torch: str
    jax: str
    shape: Shape
    steps: Steps = ()
    cut: Range | None = None
    part: int = 0
    parts: int = 1
    place: Range | None = None
    added: tuple[str, ...] = ()
    others: tuple[Steps, ...] = ()
    family: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """PyTorch's name, with the part where it is one of several."""
        whole = " + ".join((self.torch, *self.added))
        return whole if self.parts == 1 else f"{whole}[{self.part}/{self.parts}]"

    @property
    def torch_names(self) -> tuple[str, ...]:
        """All PyTorch parameters that it is made of."""
        return (self.torch, *self.added)

    def of_torch(self, values: Mapping[str, Array], gradients: bool = False) -> Array:
        """These numbers in PyTorch's layout, from its tensors by name.

        A sum has one gradient, which is that of each summand.
        """
        value = values[self.torch]
        if self.added:
            value = sum((values[name] for name in self.added), value)
            value = value / len(self.torch_names) if gradients else value
        return value if self.cut is None else self.cut.of(value)

    def to_jax(self, value: Array, gradients: bool = False) -> Array:
        """These numbers, or their gradient, in JAX's layout."""
        for step in self.steps:
            value = step.apply_gradient(value) if gradients else step.apply(value)
        return value

    def of_jax(self, value: Array, gradients: bool = False) -> Array:
        """These numbers, or their gradient, in PyTorch's layout, from the JAX tensor."""
        if self.place is not None:
            value = self.place.of(value)
        passed = shapes(self.steps, self.shape) if self.steps else []
        for step, shape in zip(reversed(self.steps), reversed(passed[:-1]), strict=True):
            value = step.undo_gradient(value, shape) if gradients else step.undo(value, shape)
        return value.reshape(self.shape)


def torch_tensors(
    partners: Iterable[Partner],
    values: Mapping[str, Array],
    own: Mapping[str, Array],
    gradients: bool = False,
) -> dict[str, Array]:
    """PyTorch's tensors that hold JAX's numbers, or their gradients, by PyTorch's names.

    ``values`` are JAX's tensors by name. What has no partner among them stays as it is in ``own``.
    Of a sum each summand gets an equal share of the numbers, and the sum's gradient.
    """
    tensors = {name: np.array(x) for name, x in own.items()}
    for p in partners:
        if p.jax not in values or not all(name in own for name in p.torch_names):
            continue
        value = p.of_jax(values[p.jax], gradients)
        share = value if gradients else value / len(p.torch_names) if p.added else value
        for name in p.torch_names:
            if p.cut is None:
                tensors[name] = np.array(share).reshape(own[name].shape)
            else:
                tensors[name][p.cut.index] = share
    return tensors


def jax_tensors(
    partners: Iterable[Partner],
    values: Mapping[str, Array],
    jax_shapes: Mapping[str, Shape],
    gradients: bool = False,
) -> dict[str, Array]:
    """JAX's tensors that hold PyTorch's numbers, or their gradients, by JAX's names.

    ``values`` are PyTorch's tensors by name; partners of others are left out.
    """
    tensors: dict[str, Array] = {}
    for p in partners:
        if not all(name in values for name in p.torch_names):
            continue
        piece = p.to_jax(p.of_torch(values, gradients), gradients)
        if p.place is None:
            tensors[p.jax] = np.array(piece, order="C").reshape(jax_shapes[p.jax])
            continue
        if p.jax not in tensors:
            tensors[p.jax] = np.zeros(jax_shapes[p.jax], piece.dtype)
        tensors[p.jax][p.place.index] = piece
    return tensors
