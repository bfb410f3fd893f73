"""The listings below a page's blocks: what each block printed when the page was pasted."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.tutorial import pages
from bench.tutorial.pages import Block
from bench.tutorial.prompt import Ran

LANGUAGE = "text"


def owners(page: Path, side: str) -> Iterator[tuple[Block, Block]]:
    """Each listing of a column, with the block of Python above it."""
    above = None
    for block in pages.column(page, side):
        if block.language == LANGUAGE and above is not None:
            yield block, above
        above = block if block.language == "python" else None


def unlike(page: Path, side: str, ran: Sequence[Ran], checked: Sequence[str]) -> list[str]:
    """The listings of a column that are not what their blocks printed, each as a sentence.

    ``checked`` are the sides of the listings that are looked at.
    """
    printed = {one.block: one.printed for one in ran}
    return [
        f"{page.name}, line {listing.line}: the block above it prints\n{printed[block]}"
        for listing, block in owners(page, side)
        if listing.side in checked and stripped(listing.text) != stripped(printed[block])
    ]


def stripped(text: str) -> list[str]:
    """The lines of a text without blanks at their ends and blank lines around them."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def rendered(page: Path, columns: Mapping[str, Sequence[Ran]]) -> str:
    """The page with every listing as its block printed it in ``columns``, by framework.

    Raises ``ValueError`` where one listing stands for two columns that print different lines.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    found: dict[Block, list[str]] = {}
    for side, ran in columns.items():
        printed = {one.block: stripped(one.printed) for one in ran}
        for listing, block in owners(page, side):
            if found.setdefault(listing, printed[block]) != printed[block]:
                raise ValueError(
                    f"{page.name}, line {listing.line}: the columns print different lines "
                    f"({found[listing]} and {printed[block]}): give each cell its own listing"
                )
    for listing in sorted(found, key=lambda block: -block.line):
        lines[listing.line - 1 : listing.last_line - 1] = found[listing]
    return "".join(f"{line}\n" for line in lines)
