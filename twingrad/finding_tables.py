"""Findings of a diagnosis on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from twingrad.diagnosis.finding import Finding, Note, PartObject
from twingrad.terminal import put, table

TITLE = "Where the two part, the largest difference first"
UNKNOWN = "no known cause makes the difference vanish"
EQUAL = (
    "no divergence. Every parameter, every module's own output and gradient, and every update "
    "agree."
)


MOST_MODULES = 6  # of a part, whose names are printed


def equal(part: PartObject | None = None) -> str:
    """The sentence that nothing differs, in a part or in the whole."""
    if part is None:
        return EQUAL
    modules = part["modules"]
    more = f" and {len(modules) - MOST_MODULES} more" if len(modules) > MOST_MODULES else ""
    return (
        f"no divergence in the part that was looked at: {', '.join(modules[:MOST_MODULES])}{more}. "
        "Their own outputs and gradients agree, each from the same inputs; nothing is said of the "
        "rest, of state and of updates."
    )


def findings(
    console: Console,
    name: str,
    found: Sequence[Finding],
    its_notes: Sequence[Note] = (),
    part: PartObject | None = None,
) -> None:
    """Print what was ``found`` about the program or file ``name``, with its evidence, and notes.

    ``part`` is the part of the models that was looked at, where it was not all.
    """
    if found:
        _table_of(console, found)
    else:
        console.print(f"{escape(name)}: {escape(equal(part))}")
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
