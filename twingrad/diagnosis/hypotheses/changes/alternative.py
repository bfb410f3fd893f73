"""Another way to compute one operation of PyTorch's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from torch import Tensor

from twingrad.foreign import Tree
from twingrad.torch_replay import Compute, Operation

T = TypeVar("T")


@dataclass(frozen=True)
class Alternative:
    """What PyTorch computes, what JAX would, both in words, and the latter's computation."""

    torch: str
    jax: str
    compute: Compute


Alternatives = Callable[[Operation], Iterator[Alternative]]


class Settings(NamedTuple):
    """An argument of a function, where it stands, and other values with their words."""

    name: str
    position: int

    def to(self, value: Tree) -> Compute:
        """The function with another value of the argument."""
        return lambda op: op.again(**{f"{self.name}_{self.position}": value})


def using(value: T, compute: Callable[[Operation, T], Tree]) -> Compute:
    """A computation by a value that is fixed now, as a lambda's would not be in a loop."""
    return lambda op: compute(op, value)


def tensor(x: Tree) -> Tensor:
    """An argument that is known to be a tensor."""
    assert isinstance(x, Tensor)
    return x


def first(op: Operation) -> Tensor:
    """The tensor that a function is mainly of."""
    return tensor(op.argument("input", 0))
