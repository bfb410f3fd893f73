"""What is seen of one pass through a model, in NumPy: calls of modules, in their order."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Key(NamedTuple):
    """One call: the module's path, and how many calls of it came before."""

    path: str
    number: int = 0

    def __str__(self) -> str:
        return self.path + (f" (call {self.number + 1})" if self.number else "")


@dataclass(frozen=True, kw_only=True)
class Call:
    """Floating-point inputs and outputs of a call with their gradients; integer inputs beside."""

    key: Key
    kind: str
    inputs: list[np.ndarray]
    integers: list[np.ndarray]
    outputs: list[np.ndarray]
    input_gradients: list[np.ndarray]
    output_gradients: list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward and a backward pass.

    ``events`` are ("enter" or "leave", call) in the order in which they happened. ``statistics``
    are running ones, as they stand afterwards.
    """

    loss: float
    calls: dict[Key, Call]
    events: list[tuple[str, Key]]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray] = field(default_factory=dict)


def only_loss(found: Any) -> Any:
    """The loss, of what may be a loss and an output."""
    return found[0] if isinstance(found, tuple | list) else found
