"""Findings of a diagnosis on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from twingrad.diagnosis.finding import Finding, Note
from twingrad.terminal import put, table

TITLE = "Where the two part, the largest difference first"
UNKNOWN = "no known cause makes the difference vanish"
EQUAL = (
    "no divergence. Every parameter, every module's own output and gradient, and every update "
    "agree."
)


def findings(
    console: Console, name: str, found: Sequence[Finding], its_notes: Sequence[Note] = ()
) -> None:
    """Print what was ``found`` about the program or file ``name``, with its evidence, and notes."""
    if found:
        _table_of(console, found)
    else:
        console.print(f"{escape(name)}: {EQUAL}")
    notes(console, its_notes)


def notes(console: Console, of_pair: Sequence[Note]) -> None:
    """Print notes, a line each."""
    for note in of_pair:
        console.print(f"note: {escape(note.where)}: {escape(note.note)}", soft_wrap=True)


def _table_of(console: Console, found: Sequence[Finding]) -> None:
    rows = table("stage", "where", "cause", title=TITLE)
    for finding in found:
        rows.add_row(finding.stage, escape(finding.where), escape(finding.cause or UNKNOWN))
    put(console, rows)
    for finding in found:
        console.print(f"[dim]{escape(finding.where)}: {escape(finding.evidence)}[/dim]")
