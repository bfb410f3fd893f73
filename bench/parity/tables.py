"""What a person reads in the terminal: verdicts, worst tensors first, and the lessons' tables."""

import io
import math

from rich.console import Console
from rich.markup import escape

from bench.harness.records import load
from bench.harness.terminal import put, table, units
from bench.parity import demo_tables, tables
from twingrad import outcome as twingrad_outcome
from twingrad.numerics import UNIT_ROUNDOFF, Verdict
from twingrad.outcome import Gate, Outcome


def comparison(argument: str) -> str:
    """The verdict tables of a comparison, as the terminal shows them."""
    report = load(argument)
    text = io.StringIO()
    console = Console(file=text, width=116, highlight=False, color_system=None)
    found = twingrad_outcome.outcomes(report)
    for program in report["programs"]:
        if "neuron" in program.get("lessons", {}):
            demo_tables.neuron(console, program["lessons"]["neuron"])
    titles = dict.fromkeys((outcome.program, outcome.preset) for outcome in found)
    for program, preset in titles:
        same = [o for o in found if (o.program, o.preset) == (program, preset)]
        tables.outcomes(console, f"{program} {preset}" if preset else program, same)
    tables.closing(console, found, report["seconds"])
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"


WORST = 10
RULES = {
    "float64": "the two sides against one another",
    "float32": "each side against the float64 oracle",
    "bfloat16": "each side against the float64 oracle",
    "tf32": "each side against the float64 oracle",
    "central-differences": "autograd against finite differences",
    "optimizer": "updates under injected gradients, against the rule written out",
    "trajectory": "losses and gradient norms of a training run, step by step",
}


def outcomes(console: Console, title: str, found: list[Outcome]) -> None:
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
    for outcome in found:
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
    for outcome in found:
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


def worst_tensors(console: Console, gate: Gate, dtype: str, count: int = WORST) -> None:
    """The tensors that come nearest to their limits, worst first."""
    by_factor = sorted(gate.tensors, key=lambda tensor: tensor.factor, reverse=True)
    rows = table(
        "tensor",
        "kind",
        "PyTorch",
        "JAX",
        "apart",
        "limit",
        "",
        title=f"{gate.name}: {RULES[gate.name]}, in units of u = {_power(dtype)}",
        right=("PyTorch", "JAX", "apart", "limit"),
    )
    for tensor in by_factor[:count]:
        rows.add_row(*_cells(tensor))
    if len(by_factor) > count:
        rows.caption = f"and {len(by_factor) - count:,} more, further from their limits"
        rows.caption_justify = "left"
    put(console, rows)


def _cells(tensor: Verdict) -> list[str]:
    return [
        escape(tensor.name),
        tensor.kind,
        *(
            f"{units(value)} u"
            for value in (
                tensor.torch_error_u,
                tensor.jax_error_u,
                tensor.mutual_error_u,
                tensor.limit_u,
            )
        ),
        verdict(tensor.ok),
    ]


def _power(dtype: str) -> str:
    exponent = str(round(math.log2(UNIT_ROUNDOFF[dtype])))
    return "2" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def closing(console: Console, found: list[Outcome], seconds: float) -> None:
    """The last line: what was judged, and the verdict on all of it."""
    judged = sum(len(gate.tensors) for outcome in found for gate in outcome.gates)
    programs = {(outcome.program, outcome.preset) for outcome in found}
    ok = all(outcome.ok for outcome in found)
    word = "[bold green]Equal[/]" if ok else "[bold red]Not equal[/]"
    console.print(
        f"{word}: {len(programs)} program{'s' * (len(programs) != 1)}, {judged:,} tensors judged "
        f"in {seconds:.0f} s, {'every gate holds' if ok else 'see the gates that differ above'}."
    )
