"""The graph of a computation as either framework records it, with values and gradients on it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
    """An operation by the framework's own name for it, or a parameter or input by its name.

    Of a part of a model, ``operations`` are the framework's names of all that it consists of.
    """

    name: str
    kind: str
    operations: tuple[str, ...] = ()


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
    """Nodes from the inputs to the loss, which is the value of the last one of a whole graph."""

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

    def within(self, prefix: str) -> "Graph":
        """The nodes whose names begin with ``prefix``, and those that they exchange tensors with.

        A node outside that hands a tensor in is an input. Raises ``ValueError`` if no name fits.
        """
        inside = {i for i, node in enumerate(self.nodes) if node.name.startswith(prefix)}
        if not inside:
            names = ", ".join(node.name for node in self.nodes)
            raise ValueError(f"no node's name begins with {prefix!r}: there are {names}")
        edges = [edge for edge in self.edges if edge.source in inside or edge.target in inside]
        kept = sorted({end for edge in edges for end in (edge.source, edge.target)})
        given = {edge.source for edge in edges} - inside
        nodes = [replace(self.nodes[i], kind=INPUT) if i in given else self.nodes[i] for i in kept]
        index = {old: new for new, old in enumerate(kept)}
        moved = [replace(e, source=index[e.source], target=index[e.target]) for e in edges]
        return Graph(nodes, self.loss, moved)


@dataclass(frozen=True)
class Use:
    """The operation ``target`` takes output number ``output`` of the node ``source``.

    ``shape`` is that of the tensor; ``value`` and ``gradient`` are as in an edge, but whole arrays.
    """

    source: int
    output: int
    target: int
    shape: tuple[int, ...]
    value: AnyArray | None
    gradient: AnyArray | None

    def edge(self) -> Edge:
        """The use as an edge, its arrays in short."""
        value, gradient = (None if a is None else Amount.of(a) for a in (self.value, self.gradient))
        return Edge(self.source, self.target, self.shape, value, gradient)


@dataclass(frozen=True)
class Recording:
    """All that a framework has recorded of a loss: nodes, and the tensors that they use.

    ``parts`` gives each node the place in the code where it was made, as its number in the order in
    which the code ran, and as its name. A parameter or an input has None.
    """

    nodes: list[Node]
    parts: list[tuple[int, str] | None]
    loss: float
    uses: list[Use]

    def graph(self) -> Graph:
        """The graph of every node."""
        return Graph(self.nodes, self.loss, [use.edge() for use in self.uses])

    def graph_of_parts(self) -> Graph:
        """The graph of the parts: the nodes that were made in one place are one node.

        What several nodes of a part take of one tensor is one edge, with the sum of the gradients.
        """
        leaves = [i for i, part in enumerate(self.parts) if part is None]
        parts = sorted({part for part in self.parts if part is not None})
        place = {part: len(leaves) + i for i, part in enumerate(parts)}
        where = [leaves.index(i) if p is None else place[p] for i, p in enumerate(self.parts)]
        nodes = [self.nodes[i] for i in leaves]
        for part in parts:
            own = (node.name for node, p in zip(self.nodes, self.parts, strict=True) if p == part)
            nodes.append(Node(part[1], OPERATION, tuple(own)))
        shared: dict[tuple[int, int, int], list[Use]] = {}
        for use in self.uses:
            if where[use.source] != where[use.target]:
                key = (use.source, use.output, where[use.target])
                shared.setdefault(key, []).append(use)
        edges = []
        for (source, output, target), uses in shared.items():
            gradients = [use.gradient for use in uses if use.gradient is not None]
            total = np.sum(gradients, axis=0) if gradients else None
            whole = Use(where[source], output, target, uses[0].shape, uses[0].value, total)
            edges.append(whole.edge())
        return Graph(nodes, self.loss, edges)


def consecutive(names: Sequence[str]) -> list[tuple[int, str]]:
    """Each name with the number of its run: equal names that follow one another are one run."""
    runs: list[tuple[int, str]] = []
    for name in names:
        number, last = runs[-1] if runs else (-1, "")
        runs.append((number, name) if runs and name == last else (number + 1, name))
    return runs
