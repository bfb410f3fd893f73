"""A phrase of the phrasebook: its title, its note, and the numbers on which both halves are run."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twingrad.foreign import Array

# float64, the largest difference against the largest magnitude. A phrase does some hundred
# operations on numbers near 1, each of which rounds by 1e-16; the smallest difference between the
# frameworks that a phrase shows (an epsilon of 1e-6 for one of 1e-5) changes a result by 1e-7.
FLOAT64_BOUND = 1e-12


@dataclass(frozen=True)
class Numbers:
    """One argument of a phrase: how its numbers are drawn, and their shape.

    ``kind`` is ``normal`` (around 0, deviation 1), ``single`` (the same in float32), ``positive``
    (from 0.5 to 2), ``integers`` (from 0 to ``below`` - 1), ``booleans`` or ``given``, for which
    ``values`` has the numbers.
    """

    kind: str
    shape: tuple[int, ...] = ()
    below: int = 0
    values: tuple[float, ...] = ()

    def draw(self, name: str) -> "Array":
        """The same array for the same ``name``: float64, int64, bool, or float32 if ``single``."""
        import numpy as np

        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if self.kind in ("normal", "single"):
            drawn = generator.standard_normal(self.shape)
            return drawn.astype(np.float32) if self.kind == "single" else drawn
        if self.kind == "positive":
            return generator.uniform(0.5, 2.0, self.shape)
        if self.kind == "integers":
            return generator.integers(0, self.below, self.shape)
        if self.kind == "booleans":
            return generator.random(self.shape) < 0.5
        return np.array(self.values).reshape(self.shape)

    def __str__(self) -> str:
        if self.kind == "given":
            text = ", ".join(f"{value:g}" for value in self.values)
            return f"[{text}]" if self.shape else text
        shape = f"({self.shape[0]},)" if len(self.shape) == 1 else str(self.shape)
        kinds = {
            "normal": "",
            "single": " float32",
            "positive": " from 0.5 to 2",
            "booleans": " booleans",
            "integers": f" integers under {self.below}",
        }
        return shape + kinds[self.kind]


def normal(*shape: int) -> Numbers:
    """Numbers around 0 with a deviation of 1, float64."""
    return Numbers("normal", shape)


def single(*shape: int) -> Numbers:
    """Numbers around 0 with a deviation of 1, float32, for what keeps a state in float32."""
    return Numbers("single", shape)


def positive(*shape: int) -> Numbers:
    """Numbers from 0.5 to 2, float64."""
    return Numbers("positive", shape)


def integers(*shape: int, below: int) -> Numbers:
    """Integers from 0 to ``below`` - 1, int64."""
    return Numbers("integers", shape, below)


def booleans(*shape: int) -> Numbers:
    """True and False with equal chance."""
    return Numbers("booleans", shape)


def given(*values: float) -> Numbers:
    """These numbers along one axis: int64 or float64, as NumPy takes them."""
    return Numbers("given", (len(values),), values=values)


def number(value: float) -> Numbers:
    """One number, without an axis: int64 or float64."""
    return Numbers("given", (), values=(value,))


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """One idiom. ``name`` is that of the function in both halves.

    ``words`` are further words by which it is found. ``differs`` says what differs between the two,
    ``costs`` what either costs. ``inputs`` are the arguments; ``gradient`` names those with respect
    to which the gradients are compared too, and is empty where there is no gradient.

    ``bound`` is the largest relative difference that the tests allow, and ``because`` says why
    where it is not that of float64. ``needs`` names further packages that its code imports.
    ``untraceable`` is set where JAX's half takes Python numbers from its arrays, which `jit` has
    not. ``costly`` is set where running it takes seconds, since something is compiled or started.
    """

    name: str
    title: str
    differs: str
    costs: str
    words: str = ""
    inputs: Mapping[str, Numbers] = field(default_factory=dict)
    gradient: tuple[str, ...] = ()
    bound: float = FLOAT64_BOUND
    because: str = ""
    needs: tuple[str, ...] = ()
    untraceable: bool = False
    costly: bool = False

    def __post_init__(self) -> None:
        assert set(self.gradient) <= set(self.inputs), self.name
        assert (self.bound == FLOAT64_BOUND) == (not self.because), self.name

    def draw(self) -> "dict[str, Array]":
        """An array for each argument, the same at every call."""
        return {name: one.draw(f"{self.name}.{name}") for name, one in self.inputs.items()}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Phrases about one thing. ``name`` is that of the module in both halves."""

    name: str
    title: str
    phrases: tuple[Phrase, ...]
