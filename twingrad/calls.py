"""One pass through a model as it was observed, in NumPy: calls of modules, in their order."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from twingrad.foreign import Array, Tensor, Tree


class Key(NamedTuple):
    """One call: the module's path, and how many calls of it came before."""

    path: str
    number: int = 0

    def __str__(self) -> str:
        return self.path + (f" (call {self.number + 1})" if self.number else "")


Event = tuple[Literal["enter", "leave"], Key]


@dataclass(frozen=True, kw_only=True)
class Call:
    """Floating-point inputs and outputs of a call with their gradients; integer inputs beside."""

    key: Key
    kind: str
    inputs: list[Array]
    integers: list[Array]
    outputs: list[Array]
    input_gradients: list[Array]
    output_gradients: list[Array]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward and a backward pass.

    ``events`` are in the order in which they happened. ``statistics`` are running ones and other
    buffers of numbers, as they stand afterwards; ``fixed`` are tensors handed to modules or
    returned by them that no parameter went into.
    """

    loss: float
    calls: dict[Key, Call]
    events: list[Event]
    gradients: dict[str, Array]
    statistics: dict[str, Array] = field(default_factory=dict)
    fixed: list[Array] = field(default_factory=list)


def only_loss(result: Tree) -> Tensor:
    """The loss of ``result``, which is a loss, or a loss and an output."""
    return result[0] if isinstance(result, tuple | list) else result
