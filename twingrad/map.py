"""Words for how a JAX parameter holds PyTorch's numbers: the values of a pair's ``names``.

Each word says what is done to PyTorch's tensor, and is undone to bring JAX's tensor, its gradient
and its updates back into PyTorch's layout, where the two are compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from twingrad.foreign import Array

Shape = tuple[int, ...]
Together = Literal["", "stack", "concatenate", "sum"]


class Step(Protocol):
    """One change of a tensor's layout that can be undone."""

    def apply(self, x: Array) -> Array:
        """The tensor as JAX has it."""

    def undo(self, y: Array, shape: Shape) -> Array:
        """The tensor as PyTorch has it, where it has ``shape``."""

    def apply_gradient(self, gradient: Array) -> Array:
        """What PyTorch's gradient is for the tensor as JAX has it."""

    def undo_gradient(self, gradient: Array, shape: Shape) -> Array:
        """What JAX's gradient is for the tensor as PyTorch has it."""

    def code(self) -> str:
        """The step as it is written in a pair file."""


class Moves:
    """A step that moves numbers and changes none: gradients go the way of values."""

    def apply(self, x: Array) -> Array:
        """The tensor as JAX has it."""
        raise NotImplementedError

    def undo(self, y: Array, shape: Shape) -> Array:
        """The tensor as PyTorch has it, where it has ``shape``."""
        raise NotImplementedError

    def apply_gradient(self, gradient: Array) -> Array:
        """What PyTorch's gradient is for the tensor as JAX has it."""
        return self.apply(gradient)

    def undo_gradient(self, gradient: Array, shape: Shape) -> Array:
        """What JAX's gradient is for the tensor as PyTorch has it."""
        return self.undo(gradient, shape)


@dataclass(frozen=True)
class Axes(Moves):
    """Axes in another order, as ``numpy.transpose`` takes it."""

    order: tuple[int, ...]

    def apply(self, x: Array) -> Array:
        """The tensor with its axes in this order."""
        if sorted(self.order) != list(range(x.ndim)):
            raise ValueError(f"axes{self.order} is no order of the axes of a shape {x.shape}")
        return x.transpose(self.order)

    def undo(self, y: Array, shape: Shape) -> Array:
        """The tensor with its axes in their first order."""
        return y.transpose(np.argsort(self.order))

    def code(self) -> str:
        """The step as it is written in a pair file."""
        return f".axes({', '.join(map(str, self.order))})"


@dataclass(frozen=True)
class Reshape(Moves):
    """The same numbers, in order, in another shape."""

    shape: Shape

    def apply(self, x: Array) -> Array:
        """The tensor in this shape."""
        if -1 not in self.shape and x.size != math.prod(self.shape):
            raise ValueError(f"reshape{self.shape} cannot hold a shape {x.shape}")
        return x.reshape(self.shape)

    def undo(self, y: Array, shape: Shape) -> Array:
        """The tensor in its first shape."""
        return y.reshape(shape)

    def code(self) -> str:
        """The step as it is written in a pair file."""
        return f".reshape({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Flip(Moves):
    """Some axes back to front, as a transposed convolution's window."""

    axes: tuple[int, ...]

    def apply(self, x: Array) -> Array:
        """The tensor with these axes back to front."""
        return np.flip(x, self.axes)

    def undo(self, y: Array, shape: Shape) -> Array:
        """The same: it undoes itself."""
        return np.flip(y, self.axes)

    def code(self) -> str:
        """The step as it is written in a pair file."""
        return f".flip({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Permute(Moves):
    """The entries along one axis in another order, as a rotary embedding's halves."""

    indices: tuple[int, ...]
    axis: int

    def apply(self, x: Array) -> Array:
        """The entries in this order."""
        if sorted(self.indices) != list(range(x.shape[self.axis])):
            raise ValueError(
                f"permute has {len(self.indices)} indices for axis {self.axis} of a shape "
                f"{x.shape}: give each of its indices once"
            )
        return np.take(x, self.indices, self.axis)

    def undo(self, y: Array, shape: Shape) -> Array:
        """The entries in their first order."""
        return np.take(y, np.argsort(self.indices), self.axis)

    def code(self) -> str:
        """The step as it is written in a pair file."""
        return f".permute({list(self.indices)}, axis={self.axis})"


@dataclass(frozen=True)
class Through:
    """Two functions of NumPy arrays, there and back, that move numbers or scale or shift them."""

    to_jax: Callable[[Array], Array]
    to_torch: Callable[[Array], Array]

    def apply(self, x: Array) -> Array:
        """The tensor that the first function makes of PyTorch's."""
        return np.asarray(self.to_jax(x))

    def undo(self, y: Array, shape: Shape) -> Array:
        """The tensor that the second function makes of JAX's."""
        x = np.asarray(self.to_torch(y))
        if x.shape != shape:
            raise ValueError(f"the way back gives a shape {x.shape} where PyTorch has {shape}")
        return x

    def apply_gradient(self, gradient: Array) -> Array:
        """PyTorch's gradient over the square of each number's factor, moved as the number is."""
        return np.asarray(self._linear(gradient) / self._factors(gradient.shape) ** 2)

    def undo_gradient(self, gradient: Array, shape: Shape) -> Array:
        """JAX's gradient by the chain rule: times each number's factor, moved back."""
        squares = self._factors(shape) ** 2
        zero = self.undo(np.zeros_like(gradient), shape)
        back = self.undo(gradient * squares, shape) - zero
        probe = np.random.default_rng(0).normal(size=shape)
        there = float(np.vdot(self._linear(probe), gradient).real)
        if not math.isclose(there, float(np.vdot(probe, back).real), rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(
                "the functions of a map do more than move, scale and shift numbers, or the second "
                "does not undo the first: gradients cannot go through them"
            )
        return back

    def _linear(self, x: Array) -> Array:
        return self.apply(x) - self.apply(np.zeros_like(x))

    def _factors(self, shape: Shape) -> Array:
        return self._linear(np.ones(shape))

    def code(self) -> str:
        """The step as it is written in a pair file."""
        names = (getattr(f, "__name__", "function") for f in (self.to_jax, self.to_torch))
        return f".through({', '.join(names)})"


@dataclass(frozen=True, init=False)
class To:
    """The JAX parameter, or parameters, that hold what PyTorch keeps under a key of ``names``.

    Several paths share PyTorch's tensor, which is cut along ``axis`` in equal parts or in
    ``sizes``. Methods say what is done to the tensor, or to each part, in their order; without
    any, it is inferred from shapes and layers. Several PyTorch tensors, by a tuple or a regular
    expression as key, go into one of JAX by ``stack``, ``concatenate`` or ``sum``.

    Example::

        names = {
            "conv.weight": twingrad.To("conv.kernel").axes(2, 3, 1, 0),
            "up.weight": twingrad.To("up.kernel").axes(2, 3, 0, 1).flip(0, 1),
            "qkv.weight": twingrad.To("q.kernel", "k.kernel", "v.kernel", sizes=(8, 4, 4)),
            ("lstm.bias_ih_l0", "lstm.bias_hh_l0"): twingrad.To("lstm.bias").sum(),
            r"re:layers[.](\\d+)[.]norm[.]weight": twingrad.To("layers.norm.scale").stack(),
        }
    """

    paths: tuple[str | None, ...]
    axis: int
    sizes: tuple[int, ...] | None
    steps: tuple[Step, ...] | None
    together: Together
    together_axis: int

    def __init__(self, *paths: str | None, axis: int = 0, sizes: Sequence[int] | None = None):
        if not paths or not all(isinstance(path, str | None) for path in paths):
            raise ValueError(f"To{paths}: give the path of a JAX parameter, or of several")
        if sizes is not None and len(sizes) != len(paths):
            raise ValueError(f"To{paths} with sizes {tuple(sizes)}: give as many sizes as paths")
        values = {
            "paths": paths,
            "axis": axis,
            "sizes": None if sizes is None else tuple(sizes),
            "steps": None,
            "together": "",
            "together_axis": 0,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _with(self, **changes: object) -> "To":
        made = To(*self.paths, axis=self.axis, sizes=self.sizes)
        kept = ("steps", "together", "together_axis")
        for name in kept:
            object.__setattr__(made, name, changes.get(name, getattr(self, name)))
        return made

    def _then(self, step: Step) -> "To":
        return self._with(steps=(*(self.steps or ()), step))

    def as_it_is(self) -> "To":
        """The tensor as PyTorch has it."""
        return self._with(steps=self.steps or ())

    def transposed(self) -> "To":
        """The two axes of a matrix exchanged."""
        return self.axes(1, 0)

    def axes(self, *order: int) -> "To":
        """The axes in this order, as ``numpy.transpose`` takes it."""
        return self._then(Axes(order))

    def reshape(self, *shape: int) -> "To":
        """The same numbers in this shape."""
        return self._then(Reshape(shape))

    def flip(self, *axes: int) -> "To":
        """These axes back to front."""
        return self._then(Flip(axes))

    def permute(self, indices: Sequence[int], axis: int = 0) -> "To":
        """The entries along ``axis`` in the order of ``indices``."""
        return self._then(Permute(tuple(int(i) for i in indices), axis))

    def through(self, to_jax: Callable[[Array], Array], to_torch: Callable[[Array], Array]) -> "To":
        """A function of NumPy arrays, and the one that undoes it.

        They may move numbers, and scale or shift them by constants.
        """
        return self._then(Through(to_jax, to_torch))

    def stack(self, axis: int = 0) -> "To":
        """Several PyTorch tensors along a new axis of JAX's, as a scan over layers has them."""
        return self._with(together="stack", together_axis=axis)

    def concatenate(self, axis: int = 0) -> "To":
        """Several PyTorch tensors one behind the other along an axis of JAX's."""
        return self._with(together="concatenate", together_axis=axis)

    def sum(self) -> "To":
        """The sum of several PyTorch tensors; each has the gradient that JAX's has."""
        return self._with(together="sum")

    def named(self, name: Callable[[str], str]) -> "To":
        """The same with other paths."""
        made = self._with()
        paths = tuple(None if path is None else name(path) for path in self.paths)
        object.__setattr__(made, "paths", paths)
        return made

    def code(self) -> str:
        """The words as they are written in a pair file."""
        arguments = ["None" if path is None else f'"{path}"' for path in self.paths]
        arguments += [f"axis={self.axis}"] if self.axis else []
        arguments += [f"sizes={self.sizes}"] if self.sizes else []
        steps = ".as_it_is()" if self.steps == () else "".join(s.code() for s in self.steps or ())
        axis = f"axis={self.together_axis}" if self.together_axis else ""
        together = f".{self.together}({axis})" if self.together else ""
        return f"To({', '.join(arguments)}){steps}{together}"


def shapes(steps: Sequence[Step], shape: Shape) -> list[Shape]:
    """The shape before the first step and after each."""
    # Functions of the pair's own are given what they expect; what only moves numbers takes any.
    has_functions = any(isinstance(step, Through) for step in steps)
    x = np.zeros(shape, np.float64 if has_functions else np.int8)
    passed = [shape]
    for step in steps:
        x = step.apply(x)
        passed.append(tuple(x.shape))
    return passed
