"""Findings of a diagnosis on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from twingrad.diagnosis.finding import Finding
from twingrad.terminal import put, table

UNKNOWN = "no known cause makes the difference vanish"
EQUAL = (
    "no divergence. Every parameter, every module's own output and gradient, and every update "
    "agree."
)


def findings(console: Console, name: str, found: Sequence[Finding]) -> None:
    """Print what was ``found`` about the program or file ``name``, with its evidence."""
    if not found:
        console.print(f"{escape(name)}: {EQUAL}")
        return
    rows = table("stage", "where", "cause", title="Where the two first part")
    for finding in found:
        rows.add_row(finding.stage, escape(finding.where), escape(finding.cause or UNKNOWN))
    put(console, rows)
    for finding in found:
        console.print(f"[dim]{escape(finding.where)}: {escape(finding.evidence)}[/dim]")
