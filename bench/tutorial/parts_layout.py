"""Places for the parts of a model: a column of boxes, beside it lanes for edges that skip some.

A box stands in the row under its lowest source. The longest path is the column; other boxes stand
on its left, and an edge that crosses a row goes down in a lane on the right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.tutorial.graph_layout import GAP, ranks
from shared.graph import Graph


@dataclass(frozen=True)
class Layout:
    """The middle of each box and its row, each edge's lane if it has one, each lane's middle."""

    boxes: list[tuple[float, int]]
    lanes: list[int | None]
    lane_places: list[float]
    width: float
    rows: int


def lay_out(graph: Graph, widths: Sequence[float], lane_width: float) -> Layout:
    """Place boxes that are ``widths`` wide, and lanes of one width."""
    rank = ranks(graph)
    column = _longest_path(graph, rank)
    half = max(widths[i] for i in column) / 2
    x = [0.0 for _ in widths]
    left = [-half - GAP] * (max(rank) + 1)  # how far each row reaches
    for i, wide in enumerate(widths):
        if i not in column:
            x[i] = left[rank[i]] - wide / 2
            left[rank[i]] -= wide + GAP
    lanes = _lanes(graph, rank)
    count = 1 + max((lane for lane in lanes if lane is not None), default=-1)
    start = -min(x[i] - wide / 2 for i, wide in enumerate(widths))
    return Layout(
        boxes=[(round(start + place, 1), row) for place, row in zip(x, rank, strict=True)],
        lanes=lanes,
        lane_places=[round(start + half + lane_width * (k + 0.5), 1) for k in range(count)],
        width=round(start + half + lane_width * count, 1),
        rows=len(left),
    )


def _longest_path(graph: Graph, rank: Sequence[int]) -> set[int]:
    """A box for each row, from the last one up."""
    node = max(range(len(rank)), key=rank.__getitem__)
    path = {node}
    while sources := [
        e.source for e in graph.edges if e.target == node and rank[e.source] == rank[node] - 1
    ]:
        node = min(sources, key=lambda i: (not any(e.target == i for e in graph.edges), i))
        path.add(node)
    return path


def _lanes(graph: Graph, rank: Sequence[int]) -> list[int | None]:
    """A lane for each edge that crosses a row: the innermost that is free, short edges first."""
    spans = [(rank[edge.source], rank[edge.target]) for edge in graph.edges]
    lanes: list[int | None] = [None for _ in spans]
    for k in sorted(range(len(spans)), key=lambda k: spans[k][1] - spans[k][0]):
        start, end = spans[k]
        if end - start > 1:
            taken = {
                lanes[other]
                for other, (first, last) in enumerate(spans)
                if lanes[other] is not None and first < end and start < last
            }
            lanes[k] = next(lane for lane, _ in enumerate(spans) if lane not in taken)
    return lanes
