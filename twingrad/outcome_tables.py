"""Tables of a comparison's outcomes on a terminal: gates, and the tensors nearest to their limits.

Errors are in units of u, one unit of rounding error of the dtype.
"""

import math

from rich.console import Console
from rich.markup import escape

from twingrad.numerics import UNIT_ROUNDOFF, Verdict
from twingrad.outcome import Gate, Outcome
from twingrad.terminal import put, table, units

WORST = 10
RULES = {
    "float64": "the two sides against one another",
    "float32": "each side against the float64 oracle",
    "bfloat16": "each side against the float64 oracle",
    "tf32": "each side against the float64 oracle",
}

DEFINITIONS = (
    "u: one unit of rounding error of the dtype, 2^-24 for float32; limit: what the gate allows."
)


def outcomes(console: Console, title: str, of_program: list[Outcome]) -> None:
    """All gates of one program, one row a gate, with the tensor that comes nearest to its limit."""
    rows = table(
        "gate",
        "dtype",
        "tensors",
        "worst tensor",
        "PyTorch",
        "JAX",
        "limit",
        "",
        title=title,
        right=("tensors", "PyTorch", "JAX", "limit"),
    )
    for outcome in of_program:
        for gate in outcome.gates:
            worst = gate.worst
            rows.add_row(
                gate.name if gate.name != outcome.dtype else "forward, backward",
                outcome.dtype,
                f"{len(gate.tensors):,}",
                escape(worst.name),
                f"{units(worst.torch_error_u)} u",
                f"{units(worst.jax_error_u)} u",
                f"{units(worst.limit_u)} u",
                verdict(gate.ok),
            )
    put(console, rows)
    for outcome in of_program:
        if not outcome.ok:
            console.print(_divergence(outcome))


def verdict(ok: bool) -> str:
    """How a gate's outcome is printed."""
    return "[green]equal[/]" if ok else "[bold red]DIFFERS[/]"


def _divergence(outcome: Outcome) -> str:
    places = {"forward": outcome.first_forward, "backward": outcome.first_backward}
    named = [f"{way} at [bold]{escape(place)}[/]" for way, place in places.items() if place]
    gate = outcome.gates[-1].name
    return f"[red]In {outcome.dtype}, gate {gate}, the sides first diverge {', '.join(named)}.[/]"


def worst_tensors(console: Console, gate: Gate, dtype: str, rule: str, count: int = WORST) -> None:
    """The tensors that come nearest to their limits, worst first; ``rule`` says what is judged."""
    by_ratio = sorted(gate.tensors, key=lambda tensor: tensor.error_ratio, reverse=True)
    rows = table(
        "tensor",
        "kind",
        "PyTorch",
        "JAX",
        "apart",
        "limit",
        "",
        title=f"{gate.name}: {rule}, in units of u = {_power(dtype)}",
        right=("PyTorch", "JAX", "apart", "limit"),
    )
    for tensor in by_ratio[:count]:
        rows.add_row(*_cells(tensor))
    if len(by_ratio) > count:
        rows.caption = f"and {len(by_ratio) - count:,} more, further from their limits"
        rows.caption_justify = "left"
    put(console, rows)


def _cells(tensor: Verdict) -> list[str]:
    errors = (
        tensor.torch_error_u,
        tensor.jax_error_u,
        tensor.mutual_error_u,
        tensor.limit_u,
    )
    numbers = (f"{units(error)} u" for error in errors)
    return [escape(tensor.name), tensor.kind, *numbers, verdict(tensor.ok)]


def _power(dtype: str) -> str:
    exponent = str(round(math.log2(UNIT_ROUNDOFF[dtype])))
    return "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def closing(console: Console, judged: list[Outcome], seconds: float) -> None:
    """The last lines: what u and limit mean, how much was judged, and the verdict on all of it."""
    tensors = sum(len(gate.tensors) for outcome in judged for gate in outcome.gates)
    programs = {(outcome.program, outcome.preset) for outcome in judged}
    ok = all(outcome.ok for outcome in judged)
    console.print(DEFINITIONS)
    word = "[bold green]Equal[/]" if ok else "[bold red]Not equal[/]"
    console.print(
        f"{word}: {len(programs)} program{'s' * (len(programs) != 1)}, {tensors:,} tensors judged "
        f"in {seconds:.0f} s, {'every gate holds' if ok else 'see the gates that differ above'}."
    )
