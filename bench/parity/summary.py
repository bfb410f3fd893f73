"""One row a program: what was judged, and the tensor that came nearest to its limit."""

import io

from rich.console import Console
from rich.markup import escape

from bench.harness.records import load
from twingrad import outcome as twingrad_outcome
from twingrad.outcome import Gate, Outcome
from twingrad.outcome_tables import ERRORS, error_cells, units_of, verdict
from twingrad.terminal import put, table


def show(console: Console, outcomes: list[Outcome]) -> None:
    """Print the summary of several programs, each with its worst tensor and that one's gate."""
    rows = table(
        "program", "tensors", "worst tensor", "dtype", *ERRORS, "",
        title="Each program, with the tensor that came nearest to its limit",
        right=("tensors", *ERRORS),
        below={"worst tensor": "program"},
    )  # fmt: skip
    for program, preset in dict.fromkeys((o.program, o.preset) for o in outcomes):
        of_program = [o for o in outcomes if (o.program, o.preset) == (program, preset)]
        gates = [(gate, outcome.dtype) for outcome in of_program for gate in outcome.gates]
        gate, dtype = max(gates, key=_nearness)
        worst = gate.worst
        rows.add_row(
            f"{program} {preset}" if preset else program,
            f"{sum(len(gate.tensors) for gate, _ in gates):,}",
            escape(worst.name.partition(" (")[0]),
            dtype,
            *error_cells(gate.name, dtype, worst),
            verdict(all(outcome.ok for outcome in of_program)),
        )
    rows.note = units_of(outcome.dtype for outcome in outcomes)
    put(console, rows)


def _nearness(gate_in_dtype: tuple[Gate, str]) -> tuple[bool, float]:
    gate, _ = gate_in_dtype
    return not gate.ok, gate.worst.error_ratio


def block(record: str) -> str:
    """The summary of a committed comparison, for a page."""
    text = io.StringIO()
    console = Console(file=text, width=100, highlight=False, color_system=None)
    show(console, twingrad_outcome.outcomes(load(record).as_object()))
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"
