"""Places for the nodes and edges of a graph: rows from the inputs down to the loss.

The layered drawing of Sugiyama, Tagawa and Toda, 1981: a row for each node, an invisible node
wherever an edge crosses a row, the order within rows by the mean of the neighbours, then places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from shared.graph import Graph

SWEEPS = 24
GAP = 14.0  # between two nodes of a row
CROSSING = 58.0  # the width that an edge takes in a row which it crosses


@dataclass(frozen=True)
class Layout:
    """The middle of every node, the points of every edge from source to target, and the width."""

    nodes: list[tuple[float, int]]
    edges: list[list[tuple[float, int]]]
    width: float
    rows: int


def lay_out(graph: Graph, widths: Sequence[float]) -> Layout:
    """Place the nodes, which are ``widths`` wide; heights are counted in rows."""
    rank = ranks(graph)
    sizes = [*widths]
    chains = []
    for edge in graph.edges:
        between = range(rank[edge.source] + 1, rank[edge.target])
        inner = [len(sizes) + i for i, _ in enumerate(between)]
        rank += between
        sizes += [CROSSING] * len(inner)
        chains.append([edge.source, *inner, edge.target])
    links: list[list[int]] = [[] for _ in rank]
    for chain in chains:
        for a, b in pairwise(chain):
            links[a].append(b)
            links[b].append(a)
    rows = [[i for i, r in enumerate(rank) if r == row] for row in range(max(rank) + 1)]
    _order(rows, links)
    x = _across(rows, links, sizes)
    left = min(x[i] - sizes[i] / 2 for i, _ in enumerate(x))
    right = max(x[i] + sizes[i] / 2 for i, _ in enumerate(x))
    places = [(round(x[i] - left, 1), rank[i]) for i, _ in enumerate(x)]
    return Layout(
        nodes=places[: len(graph.nodes)],
        edges=[[places[i] for i in chain] for chain in chains],
        width=round(right - left, 1),
        rows=len(rows),
    )


def ranks(graph: Graph) -> list[int]:
    """The row of every node: under its lowest source; a node without sources over its targets."""
    rank = [0] * len(graph.nodes)
    for i, _ in enumerate(graph.nodes):  # sources come before targets
        rank[i] = max((rank[e.source] + 1 for e in graph.edges if e.target == i), default=0)
    for i, _ in enumerate(graph.nodes):
        if not any(e.target == i for e in graph.edges):
            rank[i] = min((rank[e.target] - 1 for e in graph.edges if e.source == i), default=0)
    return rank


def _order(rows: list[list[int]], links: Sequence[Sequence[int]]) -> None:
    """Sort each row by the mean place of its neighbours in the row above, then in that below."""
    where = {i: r for r, row in enumerate(rows) for i in row}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for r in range(len(rows)) if down else reversed(range(len(rows))):
            place = {i: float(k) for row in rows for k, i in enumerate(row)}
            other = r - 1 if down else r + 1
            near = {i: [place[n] for n in links[i] if where[n] == other] for i in rows[r]}
            mean = {i: fmean(near[i]) if near[i] else place[i] for i in rows[r]}
            rows[r].sort(key=mean.__getitem__)


def _across(
    rows: Sequence[Sequence[int]], links: Sequence[Sequence[int]], sizes: Sequence[float]
) -> list[float]:
    """The middle of every node: near the mean of its neighbours, and over no other node."""
    x = [0.0] * len(sizes)
    for row in rows:
        for a, b in pairwise(row):
            x[b] = x[a] + (sizes[a] + sizes[b]) / 2 + GAP
    for _ in range(SWEEPS):
        for row in (*rows, *reversed(rows)):
            wanted = [fmean([x[n] for n in links[i]]) if links[i] else x[i] for i in row]
            offsets = [0.0]
            for a, b in pairwise(row):
                offsets.append(offsets[-1] + (sizes[a] + sizes[b]) / 2 + GAP)
            free = _not_falling([w - o for w, o in zip(wanted, offsets, strict=True)])
            for i, place, offset in zip(row, free, offsets, strict=True):
                x[i] = place + offset
    return x


def _not_falling(wanted: Sequence[float]) -> list[float]:
    """The nearest numbers, by squares, none of which is smaller than the one before it."""
    groups: list[tuple[float, int]] = []
    for value in wanted:
        mean, count = value, 1
        while groups and groups[-1][0] > mean:
            other, others = groups.pop()
            mean, count = (other * others + mean * count) / (others + count), others + count
        groups.append((mean, count))
    return [mean for mean, count in groups for _ in range(count)]
