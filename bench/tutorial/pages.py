"""The blocks of a page with two columns, as a reader meets them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.records import ROOT

FRAMEWORKS = ("torch", "jax")
_FENCE = re.compile(r"```(\w*)")


@dataclass(frozen=True)
class Block:
    """One fenced block: ``side`` is the framework of its column, or "" outside of tables."""

    language: str
    side: str
    line: int
    text: str

    @property
    def last_line(self) -> int:
        """The number of the line that closes the fence; ``line`` is the first within it."""
        return self.line + len(self.text.splitlines())


def tutorial() -> list[Path]:
    """The chapters' pages in their order."""
    return sorted((ROOT / "docs").glob("tutorial-*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page: the first cell of a row is PyTorch's, the second JAX's.

    Raises ``ValueError`` for a block that does not end.
    """
    cell, language, inside = 0, None, False
    first, lines = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if language is not None:
            if line == "```":
                side = FRAMEWORKS[cell - 1] if inside else ""
                yield Block(language, side, first, "".join(f"{row}\n" for row in lines))
                language = None
            else:
                lines.append(line)
        elif fence := _FENCE.fullmatch(line):
            language, first, lines = fence[1], number + 1, []
        elif line in ("<table>", "</table>"):
            inside = line == "<table>"
        elif line == "<tr>":
            cell = 0
        elif line == "<td>":
            cell += 1
    if language is not None:
        raise ValueError(f"{page.name}: a block that begins at line {first} does not end")


def column(page: Path, side: str) -> list[Block]:
    """What a reader of one column meets: its own blocks, and those that are both columns'."""
    return [block for block in blocks(page) if block.side in ("", side)]


def pasted(page: Path, side: str) -> str:
    """The Python of a column as it is pasted, with Enter after each block."""
    return "".join(f"{b.text}\n" for b in column(page, side) if b.language == "python")
