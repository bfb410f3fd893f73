"""A graph as SVG: nodes from the inputs down to the loss, values and gradients on the edges."""

from collections.abc import Iterator
from html import escape

from bench.tutorial.graph_layout import lay_out
from shared.graph import INPUT, PARAMETER, Amount, Edge, Graph, Node

# Foreground, background, values, gradients, parameters' fill: for a light and for a dark page.
COLOURS = {
    "": ("#1f2328", "#ffffff", "#1f6f8b", "#b83248", "#dcebf1"),
    "-dark": ("#e6edf3", "#0d1117", "#6cc3e0", "#ff8a98", "#16303c"),
}
ROW, BOX, LETTER, MARGIN, HEAD = 74.0, 24.0, 6.9, 6.0, 58.0
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def svg(graph: Graph, title: str, ink: str, note: str) -> str:
    """The drawing, as wide as the graph needs; ``note`` goes into its description."""
    text, paper, value, gradient, fill = COLOURS[ink]
    boxes = [max(30.0, LETTER * len(node.name) + 14) for node in graph.nodes]
    layout = lay_out(graph, [max(b, *_label_widths(graph, i)) for i, b in enumerate(boxes)])
    heading = [(title, text), ("value, going down", value), ("gradient, coming back", gradient)]
    across = max(layout.width, LETTER * len(title)) + 2 * MARGIN
    width, height = max(across, 280.0), HEAD + layout.rows * ROW + 6
    shift = (width - layout.width) / 2
    places = [(x + shift, _middle(row)) for x, row in layout.nodes]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="11.5">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(note)}</desc>",
        f'<rect width="100%" height="100%" fill="{paper}"/>',
    ]
    for i, (line, colour) in enumerate(heading):
        weight = ' font-weight="600"' if i == 0 else ""
        parts.append(_text(MARGIN, 18 + 15 * i, line, colour, f"{weight}"))
    for edge, route in zip(graph.edges, layout.edges, strict=True):
        points = [(x + shift, _middle(row)) for x, row in route]
        parts.append(_line(points, edge, text))
    for edge, route in zip(graph.edges, layout.edges, strict=True):
        points = [(x + shift, _middle(row)) for x, row in route]
        parts += _labels(points, edge, _is_alone(graph, edge), (paper, value, gradient))
    for node, box, place in zip(graph.nodes, boxes, places, strict=True):
        parts += _box(node, box, place, (text, paper, fill))
    x, y = places[-1]
    parts.append(
        _text(x, y + BOX / 2 + 15, f"loss {graph.loss:.3g}", value, ' text-anchor="middle"')
    )
    parts.append(_text(x, y + BOX / 2 + 28, "1", gradient, ' text-anchor="middle"'))
    return "\n".join([*parts, "</svg>\n"])


def _middle(row: int) -> float:
    return HEAD + row * ROW + BOX / 2


def _text(x: float, y: float, words: str, colour: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{more}>{escape(words)}</text>'


def _line(points: list[tuple[float, float]], edge: Edge, colour: str) -> str:
    """A smooth line through the points, dashed where no gradient comes back."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for nx, ny in rest:
        path += f"C{x:.1f} {(y + ny) / 2:.1f} {nx:.1f} {(y + ny) / 2:.1f} {nx:.1f} {ny:.1f}"
        x, y = nx, ny
    dash = ' stroke-dasharray="3 3"' if edge.gradient is None else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="0.45"{dash}/>'


def _is_alone(graph: Graph, edge: Edge) -> bool:
    """Whether it is the only edge that leaves its source."""
    return sum(other.source == edge.source for other in graph.edges) == 1


def _label_widths(graph: Graph, node: int) -> list[float]:
    """The widths of the labels that stand next to a node: under it, or over it."""
    return [0.0] + [
        _label_width(edge)
        for edge in graph.edges
        if node == (edge.source if _is_alone(graph, edge) else edge.target)
    ]


def _rows(edge: Edge) -> list[str]:
    return [_shown(edge.value, edge), *([] if edge.gradient is None else [str(edge.gradient)])]


def _label_width(edge: Edge) -> float:
    return max(len(row) for row in _rows(edge)) * LETTER + 8


def _labels(
    points: list[tuple[float, float]], edge: Edge, is_alone: bool, colours: tuple[str, str, str]
) -> Iterator[str]:
    """Value and gradient of an edge, on a patch of the paper's colour.

    They stand under its source, or over the next row where several edges leave the source.
    """
    paper, *inks = colours
    rows, wide = _rows(edge), _label_width(edge)
    (x0, y0), (x1, y1) = points[:2]
    share, along = (0.38, 0.06) if is_alone else (0.6, 0.86)
    x, top = x0 + (x1 - x0) * along, y0 + (y1 - y0) * share - 6.5 * len(rows)
    yield (
        f'<rect x="{x - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
        f'height="{13 * len(rows)}" fill="{paper}" fill-opacity="0.85"/>'
    )
    for i, (row, colour) in enumerate(zip(rows, inks, strict=False)):
        yield _text(x, top + 10 + 13 * i, row, colour, ' text-anchor="middle"')


def _shown(value: Amount | None, edge: Edge) -> str:
    """A number as it is; of a larger tensor the shape too."""
    shape = "×".join(map(str, edge.shape))
    if value is None:
        return shape or "?"
    return str(value) if value.is_number else f"{shape} {value}"


def _box(
    node: Node, wide: float, place: tuple[float, float], colours: tuple[str, str, str]
) -> Iterator[str]:
    text, paper, fill = colours
    x, y = place
    dash = ' stroke-dasharray="3 3"' if node.kind == INPUT else ""
    yield (
        f'<rect x="{x - wide / 2:.1f}" y="{y - BOX / 2:.1f}" width="{wide:.1f}" height="{BOX:.0f}" '
        f'rx="6" fill="{fill if node.kind == PARAMETER else paper}" stroke="{text}"{dash}/>'
    )
    yield _text(x, y + 4, node.name, text, ' text-anchor="middle"')
