"""The parts of a model as SVG: a box for each, with its parameters and operations in it."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.tutorial.graph_svg import COLOURS, FONT
from bench.tutorial.parts_layout import Layout, lay_out
from shared.graph import INPUT, PARAMETER, Edge, Graph, Node

LINE, LETTER, PADDING, MARGIN, HEAD = 14.0, 6.95, 8.0, 6.0, 90.0
LETTERS = 26  # in a line of operations
GAP = 66.0  # between two rows: three lines of labels, and a bit of the lines over and under them
SPACE = 9.0  # of it, under the labels
TURN = 12.0  # the radius of a lane's corners
# What the frameworks call an operation that computes nothing: it only gives another shape.
SHAPING = {
    *(f"{name}Backward0" for name in ("View", "UnsafeView", "ReshapeAlias", "T", "Transpose")),
    *(f"{name}Backward0" for name in ("Permute", "Unsqueeze", "Squeeze", "Clone", "Split")),
    *("reshape", "broadcast_in_dim", "transpose", "squeeze", "split"),
}


@dataclass(frozen=True)
class Box:
    """The lines of a box, each of pieces with the number of their colour, and its size."""

    lines: list[list[tuple[str, int]]]

    @property
    def width(self) -> float:
        """In pixels; the pieces of a line are a letter apart."""
        letters = (sum(len(text) + 1 for text, _ in line) - 1 for line in self.lines)
        return max(letters) * LETTER + 2 * PADDING

    @property
    def height(self) -> float:
        """In pixels."""
        return LINE * len(self.lines) + 2 * PADDING - 3


def svg(graph: Graph, title: str, ink: str, note: str) -> str:
    """The drawing of a graph of parts; ``note`` goes into its description."""
    text, paper, value, gradient, fill = COLOURS[ink]
    bare, boxes = _boxes(graph)
    labels = [_label_width(edge) for edge in bare.edges]
    layout = lay_out(bare, _widths(bare, boxes, labels), max(labels))
    tops, height = _tops(layout, boxes)
    heading = [
        (title, text),
        ("filled: a part that has parameters", text),
        ("shape and value, going down", value),
        ("gradient, coming back", gradient),
    ]
    letters = max(len(line) for line, _ in heading)
    width = max(layout.width, LETTER * letters) + 2 * MARGIN
    shift = (width - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="11.5">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(note)}</desc>",
        f'<rect width="100%" height="100%" fill="{paper}"/>',
    ]
    for i, (line, colour) in enumerate(heading):
        weight = ' font-weight="600"' if i == 0 else ""
        parts.append(_text(MARGIN, 18 + LINE * i, line, colour, weight))
    ends = _ends(bare, layout, labels)
    for edge, lane, end in zip(bare.edges, layout.lanes, ends, strict=True):
        sides = [
            (boxes[i], layout.boxes[i][0] + shift, tops[layout.boxes[i][1]]) for i in _of(edge)
        ]
        route = _across(sides, end + shift) if lane is None else _around(sides, end + shift)
        parts.append(_line(route, edge, text))
    for edge, end, wide in zip(bare.edges, ends, labels, strict=True):
        bottom = tops[layout.boxes[edge.source][1] + 1] - SPACE
        parts += _labels(edge, end + shift, bottom, wide, (paper, value, gradient))
    for node, box, (x, row) in zip(bare.nodes, boxes, layout.boxes, strict=True):
        colours = (text, value, gradient, fill if len(_parameters(graph, node)) else paper)
        parts += _drawn(box, x + shift, tops[row], colours, dashed=node.kind == INPUT)
    return "\n".join([*parts, "</svg>\n"])


def _boxes(graph: Graph) -> tuple[Graph, list[Box]]:
    """The graph without its parameters, and a box for each node, in which they are written."""
    kept = [i for i, node in enumerate(graph.nodes) if node.kind != PARAMETER]
    index = {old: new for new, old in enumerate(kept)}
    edges = [
        Edge(index[e.source], index[e.target], e.shape, e.value, e.gradient)
        for e in graph.edges
        if e.source in index
    ]
    nodes = [graph.nodes[i] for i in kept]
    return Graph(nodes, graph.loss, edges), [Box(_lines(graph, node)) for node in nodes]


def _parameters(graph: Graph, node: Node) -> list[Edge]:
    return [
        edge
        for edge in graph.edges
        if graph.nodes[edge.target] is node and graph.nodes[edge.source].kind == PARAMETER
    ]


def _lines(graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
    """The node's name, its parameters with value and gradient, and its operations."""
    lines = [[(node.name, 0)]]
    for edge in _parameters(graph, node):
        name = graph.nodes[edge.source].name.rpartition(".")[2]
        amounts = [(str(a), i) for i, a in ((1, edge.value), (2, edge.gradient)) if a is not None]
        lines.append([(name, 0), (_shape(edge.shape), 1), *amounts])
    lines += [[(line, 0)] for line in _operations(node.operations)]
    return lines


def _operations(names: Sequence[str]) -> Iterator[str]:
    """The operations that compute, in lines, and how many there are that only change a shape."""
    computing = [name for name in names if name not in SHAPING]
    shaping = sum(Counter(name for name in names if name in SHAPING).values())
    joined = ", ".join(name.replace(" ", "\N{NO-BREAK SPACE}") for name in computing)
    for line in textwrap.wrap(joined, LETTERS, break_long_words=False):
        yield line.replace("\N{NO-BREAK SPACE}", " ")
    if shaping:
        yield f"{'and ' if computing else ''}{shaping} for the shape"


def _widths(graph: Graph, boxes: Sequence[Box], labels: Sequence[float]) -> list[float]:
    """The width that each box takes up with the labels of the edges that end at it."""
    above = [0.0 for _ in boxes]
    for edge, wide in zip(graph.edges, labels, strict=True):
        above[edge.target] += wide
    return [max(box.width, wide) for box, wide in zip(boxes, above, strict=True)]


def _tops(layout: Layout, boxes: Sequence[Box]) -> tuple[list[float], float]:
    """The upper side of each row, and the height of the drawing."""
    heights = [0.0] * layout.rows
    for (_, row), box in zip(layout.boxes, boxes, strict=True):
        heights[row] = max(heights[row], box.height)
    tops, y = list[float](), HEAD
    for height in heights:
        tops.append(y)
        y += height + GAP
    return tops, y - GAP + MARGIN


def _ends(graph: Graph, layout: Layout, labels: Sequence[float]) -> list[float]:
    """Where each edge enters the row below its source: in its lane, or side by side over a box."""
    found = [layout.lane_places[lane or 0] if layout.lane_places else 0.0 for lane in layout.lanes]
    for i, (middle, _) in enumerate(layout.boxes):
        edges = [
            k
            for k, (edge, lane) in enumerate(zip(graph.edges, layout.lanes, strict=True))
            if edge.target == i and lane is None
        ]
        x = middle - sum(labels[k] for k in edges) / 2
        for k in sorted(edges, key=lambda k: layout.boxes[graph.edges[k].source][0]):
            found[k] = x + labels[k] / 2
            x += labels[k]
    return found


def _of(edge: Edge) -> tuple[int, int]:
    return edge.source, edge.target


def _across(sides: Sequence[tuple[Box, float, float]], end: float) -> str:
    """From under a box to the upper side of the one in the next row."""
    (box, x, top), (_, _, below) = sides
    start, bend = top + box.height, below - SPACE - 3 * 13
    middle = (start + bend) / 2
    curve = f"C{x:.1f} {middle:.1f} {end:.1f} {middle:.1f} {end:.1f} {bend:.1f}"
    return f"M{x:.1f} {start:.1f}{curve}V{below:.1f}"


def _around(sides: Sequence[tuple[Box, float, float]], lane: float) -> str:
    """From the right side of a box into a lane, down, and back to the right side of a box."""
    (box, x, top), (other, x2, top2) = sides
    y, y2 = top + box.height * 0.6, top2 + other.height * 0.4
    right, right2, before = x + box.width / 2, x2 + other.width / 2, lane - TURN
    return (
        f"M{right:.1f} {y:.1f}H{before:.1f}Q{lane:.1f} {y:.1f} {lane:.1f} {y + TURN:.1f}"
        f"V{y2 - TURN:.1f}Q{lane:.1f} {y2:.1f} {before:.1f} {y2:.1f}H{right2:.1f}"
    )


def _line(route: str, edge: Edge, colour: str) -> str:
    dash = ' stroke-dasharray="3 3"' if edge.gradient is None else ""
    return f'<path d="{route}" fill="none" stroke="{colour}" stroke-opacity="0.45"{dash}/>'


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _rows(edge: Edge) -> list[tuple[str, int]]:
    """The lines of a label, each with the number of its colour."""
    amounts = [(str(a), i) for i, a in ((1, edge.value), (2, edge.gradient)) if a is not None]
    return [(_shape(edge.shape), 1), *amounts]


def _label_width(edge: Edge) -> float:
    return max(len(row) for row, _ in _rows(edge)) * LETTER + 10


def _labels(
    edge: Edge, x: float, bottom: float, wide: float, colours: tuple[str, str, str]
) -> Iterator[str]:
    """Shape, value and gradient of an edge, over the row that it enters."""
    paper, *inks = colours
    rows = _rows(edge)
    top = bottom - 13 * len(rows)
    yield (
        f'<rect x="{x - wide / 2 + 2:.1f}" y="{top:.1f}" width="{wide - 4:.1f}" '
        f'height="{13 * len(rows)}" fill="{paper}"/>'
    )
    for i, (row, colour) in enumerate(rows):
        yield _text(x, top + 10 + 13 * i, row, inks[colour - 1], ' text-anchor="middle"')


def _text(x: float, y: float, words: str, colour: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{more}>{escape(words)}</text>'


def _drawn(
    box: Box, x: float, top: float, colours: tuple[str, str, str, str], *, dashed: bool
) -> Iterator[str]:
    text, value, gradient, fill = colours
    left = x - box.width / 2
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="6" fill="{fill}" stroke="{text}"{dash}/>'
    )
    for i, line in enumerate(box.lines):
        at = left + PADDING
        for words, colour in line:
            weight = ' font-weight="600"' if i == 0 else ""
            ink = (text, value, gradient)[colour]
            yield _text(at, top + PADDING + 8 + LINE * i, words, ink, weight)
            at += LETTER * (len(words) + 1)
