"""Notebooks made of the tutorial's pages: one of each column, and one with both.

A notebook is JSON (https://nbformat.readthedocs.io, format 4.5). Text becomes cells of Markdown,
blocks become cells of code, listings and pictures their outputs. In the notebook of both columns
every column has names of its own: the magics ``%%torch``, ``%%jax`` and ``%%both`` run the cells.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness.records import ROOT
from bench.tutorial import listings, pages
from bench.tutorial.pages import Block
from bench.tutorial.prompt import Ran
from twingrad.files import write_bytes

FOLDER = ROOT / "docs" / "notebooks"
BOTH = "both"
KINDS = (*pages.FRAMEWORKS, BOTH)
_SETUP = """\
import sys
from pathlib import Path

# The checkout's folder, from which the programs are imported.
here = Path.cwd()
sys.path.insert(0, str(next(p for p in (here, *here.parents) if (p / "torch_impl").is_dir())))
"""
_MAGICS = """
from contextlib import redirect_stdout
from io import StringIO

from IPython.core.magic import register_cell_magic

# Each column has names of its own, as in two Python prompts. What both run is printed once.
columns = {"torch": {"__name__": "__main__"}, "jax": {"__name__": "__main__"}}


@register_cell_magic
def torch(line, cell):
    exec(compile(cell, "<torch>", "exec"), columns["torch"])


@register_cell_magic
def jax(line, cell):
    exec(compile(cell, "<jax>", "exec"), columns["jax"])


@register_cell_magic
def both(line, cell):
    torch(line, cell)
    with redirect_stdout(StringIO()):
        jax(line, cell)
"""
_LINK = re.compile(r"(\]\(|src=\"|srcset=\")(?!https?:|#)")
# What only a page on the web has: the frame of its tables, and folded parts.
_FRAME = re.compile(
    r"</?(table|tr|td|details)>|<tr><th>.*</th></tr>|<summary>(.*)</summary>|<!--.*?-->", re.DOTALL
)


@dataclass(frozen=True)
class Piece:
    """Text or a block of Python, of one column or, where ``side`` is "", of both."""

    side: str
    text: str
    block: Block | None = None


def write(page: Path, columns: Mapping[str, Sequence[Ran]]) -> None:
    """Write the notebooks of a page, with what its columns printed and drew as outputs."""
    FOLDER.mkdir(exist_ok=True)
    for kind in KINDS:
        content = json.dumps(notebook(page, kind, columns), ensure_ascii=False, indent=1)
        write_bytes(path_of(page, kind), f"{content}\n".encode())


def path_of(page: Path, kind: str) -> Path:
    """The notebook's file; ``kind`` is a framework's name, or ``both``."""
    return FOLDER / f"{page.stem}-{kind}.ipynb"


def notebook(
    page: Path, kind: str, columns: Mapping[str, Sequence[Ran]] | None = None
) -> dict[str, object]:
    """The notebook as its JSON object; without ``columns`` no cell has an output."""
    ran = {side: _by_block(page, side, column) for side, column in (columns or {}).items()}
    setup = _SETUP + (_MAGICS if kind == BOTH else "")
    cells = [_cell("code", setup)]
    for piece in pieces(page):
        if kind != BOTH and piece.side not in ("", kind):
            continue
        if piece.block is None:
            cells.append(_cell("markdown", piece.text))
            continue
        magic = f"%%{piece.side or BOTH}\n" if kind == BOTH else ""
        sides = [piece.side or pages.FRAMEWORKS[0]] if kind == BOTH else [kind]
        outputs = [
            output
            for side in sides
            if piece.block in ran.get(side, {})
            for output in _outputs(ran[side][piece.block])
        ]
        cells.append(_cell("code", magic + piece.text, outputs))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _by_block(page: Path, side: str, ran: Sequence[Ran]) -> dict[Block, Ran]:
    """What each block printed, by the block as it stands on the page now: listings move it."""
    blocks = [block for block in pages.column(page, side) if block.language == "python"]
    return dict(zip(blocks, ran, strict=True))


def pieces(page: Path) -> Iterator[Piece]:
    """The page cut into text and blocks of Python; listings, which become outputs, are left out."""
    lines = page.read_text(encoding="utf-8").splitlines()
    listed = {listing for side in pages.FRAMEWORKS for listing, _ in listings.owners(page, side)}
    by_line = {block.line: block for block in pages.blocks(page)}
    text, cell, is_inside, number = list[str](), 0, False, 1
    while number <= len(lines):
        line = lines[number - 1]
        side = pages.FRAMEWORKS[cell - 1] if is_inside and cell else ""
        block = by_line.get(number + 1)
        is_table = line in ("<table>", "</table>", "<tr>", "<td>", "</td>")
        if block or is_table:
            yield from _text(side, text)
            text = []
        if block and block.language == "python":
            yield Piece(side, block.text, block)
        elif block and block not in listed:
            text = lines[number - 1 : block.last_line]
        if line in ("<table>", "</table>"):
            is_inside, cell = line == "<table>", 0
        cell = {"<tr>": 0, "<td>": cell + 1}.get(line, cell)
        if not block:
            text.append(line)
        number = block.last_line + 1 if block else number + 1
    yield from _text("", text)


def _text(side: str, lines: Sequence[str]) -> Iterator[Piece]:
    """Markdown without the page's frame; nothing where nothing is left."""
    shown = _FRAME.sub(lambda m: f"**{m[2]}**" if m[2] else "", "\n".join(lines))
    shown = _LINK.sub(r"\1../", re.sub(r"\n{3,}", "\n\n", shown).strip())
    if shown:
        yield Piece(side, shown)


def _cell(kind: str, text: str, outputs: Sequence[dict[str, object]] = ()) -> dict[str, object]:
    lines = text.rstrip("\n").splitlines(keepends=True)
    cell: dict[str, object] = {"cell_type": kind, "id": "", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": list(outputs)}
    return {**cell, "source": lines}


def _outputs(ran: Ran) -> Iterator[dict[str, object]]:
    """What a cell printed, and its pictures."""
    if ran.printed:
        text = ran.printed.splitlines(keepends=True)
        yield {"output_type": "stream", "name": "stdout", "text": text}
    for picture in ran.pictures:
        data = {"image/png": base64.b64encode(picture).decode()}
        yield {"output_type": "display_data", "data": data, "metadata": {}}
