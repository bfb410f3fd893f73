"""Attention weights as SVG: a square for each pair of tokens, and its weight in it."""

from collections.abc import Sequence
from html import escape

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
# Foreground, background and the colour of a weight of 1: for a light and for a dark page.
COLOURS = {"": ("#1f2328", "#ffffff", "#1f6f8b"), "-dark": ("#e6edf3", "#0d1117", "#6cc3e0")}
SIDE, LEFT, HEAD, GAP = 52.0, 58.0, 64.0, 26.0


def svg(
    weights: Sequence[Sequence[Sequence[float]]], words: Sequence[str], ink: str, note: str
) -> str:
    """The heads side by side: ``weights`` by head, reading token and token that is read."""
    text, paper, full = COLOURS[ink]
    panel = LEFT + SIDE * len(words)
    width = panel * len(weights) + GAP * (len(weights) - 1) + 10
    height = HEAD + SIDE * len(words) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="15">',
        "<title>Attention weights</title>",
        f"<desc>{escape(note)}</desc>",
        f'<rect width="100%" height="100%" fill="{paper}"/>',
    ]
    for head, matrix in enumerate(weights):
        left = LEFT + head * (panel + GAP)
        middle = left + SIDE * len(words) / 2
        parts.append(_text(middle, 20, f"head {head}: what each row reads", text, bold=True))
        for i, word in enumerate(words):
            parts.append(_text(left + SIDE * (i + 0.5), HEAD - 10, word, text))
            y = HEAD + SIDE * (i + 0.5) + 5
            parts.append(_text(left - 8, y, word, text, anchor="end"))
        for i, row in enumerate(matrix):
            for j, weight in enumerate(row):
                x, y = left + SIDE * j, HEAD + SIDE * i
                fill = _mixed(paper, full, weight)
                parts.append(
                    f'<rect x="{x:.0f}" y="{y:.0f}" width="{SIDE - 2:.0f}" '
                    f'height="{SIDE - 2:.0f}" rx="4" fill="{fill}" stroke="{text}" '
                    f'stroke-opacity="{0.35 if j <= i else 0.1}"/>'
                )
                if j <= i:
                    ink_of = paper if weight > 0.62 else text
                    parts.append(_text(x + SIDE / 2 - 1, y + 30, f"{weight:.2f}", ink_of))
    return "\n".join([*parts, "</svg>\n"])


def _text(
    x: float, y: float, words: str, colour: str, *, anchor: str = "middle", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


def _mixed(start: str, end: str, share: float) -> str:
    """The colour that lies ``share`` of the way from ``start`` to ``end``."""
    channels = (
        round(int(a, 16) + share * (int(b, 16) - int(a, 16)))
        for a, b in ((start[i : i + 2], end[i : i + 2]) for i in (1, 3, 5))
    )
    return "#" + "".join(f"{channel:02x}" for channel in channels)
