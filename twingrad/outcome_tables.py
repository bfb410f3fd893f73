"""Tables of a comparison's outcomes on a terminal: gates, and the tensors nearest to their limits.

Errors are in units of u, one unit of rounding error of the dtype.
"""

import math
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from twingrad import devices
from twingrad.numerics import UNIT_ROUNDOFF, Verdict
from twingrad.outcome import (
    Gate,
    MeasuredErrors,
    Outcome,
    divergence_sentence,
    measured_errors,
)
from twingrad.terminal import put, table, units

WORST = 10
RULES = {
    "float64": "the two sides against one another",
    "second batch": "the two sides against one another, on other inputs",
    "state": "what a pass in training mode leaves behind, the two sides against one another",
    "optimizer": "updates by the same gradients, the two sides against one another",
    "decoding": "logits with a cache, each side against its own forward pass and the two apart",
    "float32": "each side against the float64 oracle",
    "two sides": "the two sides against one another, without a float64 pass to judge by",
    "two sides, other inputs": "the two sides against one another, on a second batch",
    "other inputs": "each side against the float64 oracle, on a second batch",
    "bfloat16": "each side against the float64 oracle",
    "tf32": "each side against the float64 oracle",
}

DEFINITIONS = (
    "PyTorch, JAX: error against the float64 result, or against a formula written out; apart: the "
    "two from one another; u: one unit of rounding error of the dtype, 2^-24 for float32; limit: "
    "what the gate allows."
)
ERRORS = ("PyTorch", "JAX", "apart", "limit")


def outcomes(console: Console, title: str, of_program: list[Outcome]) -> None:
    """All gates of one program, one row a gate, with the tensor that comes nearest to its limit."""
    rows = table(
        "gate",
        "dtype",
        "tensors",
        "worst tensor",
        *ERRORS,
        "",
        title=title,
        right=("tensors", *ERRORS),
        below={"worst tensor": "gate"},
    )
    for outcome in of_program:
        for gate in outcome.gates:
            worst = gate.worst
            rows.add_row(
                gate.name if gate.name != outcome.dtype else "forward, backward",
                outcome.dtype,
                f"{len(gate.tensors):,}",
                escape(worst.name),
                *error_cells(gate.name, outcome.dtype, worst),
                verdict(gate.ok),
            )
    rows.note = units_of(outcome.dtype for outcome in of_program)
    put(console, rows)
    for outcome in of_program:
        if not outcome.ok:
            console.print(divergence_sentence(outcome), style="red", markup=False)


def error_cells(gate: str, dtype: str, tensor: Verdict) -> list[str]:
    """The cells of the columns ``ERRORS``; of what the gate does not measure they are empty."""
    errors = measured_errors(gate, dtype, tensor)
    limit = tensor.limit_u if errors != MeasuredErrors() else None
    values = (errors.torch, errors.jax, errors.apart, limit)
    return ["" if value is None else units(value) for value in values]


def units_of(dtypes: Iterable[str]) -> str:
    """The sentence under a table that says what its errors are counted in."""
    known = [dtype for dtype in dict.fromkeys(dtypes) if dtype in UNIT_ROUNDOFF]
    sizes = (f"2^{round(math.log2(UNIT_ROUNDOFF[dtype]))} in {dtype}" for dtype in known)
    return f"In u, one unit of rounding error: {', '.join(sizes)}." if known else ""


def verdict(ok: bool) -> str:
    """How a gate's outcome is printed."""
    return "[green]equal[/]" if ok else "[bold red]DIFFERS[/]"


def worst_tensors(console: Console, gate: Gate, dtype: str, rule: str, count: int = WORST) -> None:
    """The tensors that come nearest to their limits, worst first; ``rule`` says what is judged."""
    by_ratio = gate.worst_first
    rows = table(
        "tensor",
        "kind",
        *ERRORS,
        "",
        title=f"{gate.name}: {rule}",
        right=ERRORS,
        below={"kind": "tensor"},
    )
    for tensor in by_ratio[:count]:
        cells = error_cells(gate.name, dtype, tensor)
        rows.add_row(escape(tensor.name), tensor.kind, *cells, verdict(tensor.ok))
    rows.note = units_of([dtype])
    if len(by_ratio) > count:
        rows.note += f" {len(by_ratio) - count:,} more tensors are further from their limits."
    put(console, rows)


def comparison(
    console: Console, name: str, judged: list[Outcome], seconds: float, hint: str | None = None
) -> None:
    """Print one pair's outcomes: the worst tensors of each gate, all gates, and the last lines."""
    for outcome in judged:
        for gate in outcome.gates:
            worst_tensors(console, gate, outcome.dtype, RULES[gate.name])
    outcomes(console, name, judged)
    closing(console, judged, seconds, hint)


def closing(
    console: Console, judged: list[Outcome], seconds: float, hint: str | None = None
) -> None:
    """The last lines: what u and limit mean, how much was judged, and the verdict on all of it.

    ``hint`` says what to call where a gate differs.
    """
    tensors = sum(len(gate.tensors) for outcome in judged for gate in outcome.gates)
    programs = {(outcome.program, outcome.preset) for outcome in judged}
    ok = all(outcome.ok for outcome in judged)
    console.print(DEFINITIONS)
    for outcome in judged:
        if outcome.device == "cuda" and outcome.settings and outcome is judged[-1]:
            console.print(devices.sentence(outcome.settings), markup=False, highlight=False)
    for basis in dict.fromkeys(o.basis for o in judged if o.basis is not None):
        console.print(basis.sentence, markup=False, highlight=False)
    word = "[bold green]Equal[/]" if ok else "[bold red]Not equal[/]"
    console.print(
        f"{word}: {len(programs)} program{'s' * (len(programs) != 1)}, {tensors:,} tensors judged "
        f"in {seconds:.0f} s, {'every gate holds' if ok else 'see the gates that differ above'}."
    )
    if hint and not ok:
        console.print(hint, markup=False, soft_wrap=True)
