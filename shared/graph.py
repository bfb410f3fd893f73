"""The graph of a computation as either framework records it, with values and gradients on it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shared.arrays import AnyArray

PARAMETER, INPUT, OPERATION = "parameter", "input", "operation"


@dataclass(frozen=True)
class Amount:
    """A tensor in short: its shape, and its number, or the L2 norm of its numbers if many."""

    shape: tuple[int, ...]
    size: float

    @classmethod
    def of(cls, tensor: AnyArray) -> "Amount":
        """The amount of a tensor of NumPy; reckoned in float64."""
        wide = np.asarray(tensor, dtype=np.float64)
        return cls(wide.shape, float(wide.sum() if wide.size == 1 else np.linalg.norm(wide)))

    @property
    def is_number(self) -> bool:
        """Whether the tensor holds one number."""
        return math.prod(self.shape) == 1

    def __str__(self) -> str:
        number = f"{self.size:.3g}" if self.size else "0"
        return number if self.is_number else f"‖{number}‖"


@dataclass(frozen=True)
class Node:
    """An operation by the framework's own name for it, or a parameter or input by its name."""

    name: str
    kind: str


@dataclass(frozen=True)
class Edge:
    """A tensor that the node ``target`` takes from the node ``source``, both by their index.

    ``gradient`` is what this use of the tensor adds to the gradient of the loss with respect to it;
    None where nobody asks for one. ``value`` is None where the framework does not show it.
    """

    source: int
    target: int
    shape: tuple[int, ...]
    value: Amount | None
    gradient: Amount | None


@dataclass(frozen=True)
class Graph:
    """Nodes from the inputs to the loss, which is the value of the last one."""

    nodes: list[Node]
    loss: float
    edges: list[Edge] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """A line for each edge: the tensor, who takes it, its value, and the gradient there."""
        labels = [f"{i} {node.name}"[:22] for i, node in enumerate(self.nodes)]
        wide = max(map(len, labels))
        yield f"{'from':<{wide}} {'to':<{wide}} {'value':>8} {'gradient':>9}"
        for edge in self.edges:
            ends = f"{labels[edge.source]:<{wide}} {labels[edge.target]:<{wide}}"
            value, gradient = ("" if a is None else str(a) for a in (edge.value, edge.gradient))
            yield f"{ends} {value:>8} {gradient:>9}".rstrip()
