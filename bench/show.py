"""What a person reads in the terminal: verdicts, worst tensors first, and the lessons' tables."""

import math
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from bench.compare import Gate, Outcome
from shared.numerics import UNIT_ROUNDOFF, Verdict

NAMES = {"torch": "PyTorch", "jax": "JAX"}
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


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the house's style."""
    made = Table(box=box.SIMPLE_HEAD, title=title, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def put(console: Console, rows: Table) -> None:
    """Print a table under its title, which may be wider than the table is."""
    if rows.title:
        console.print(rows.title, style="bold", highlight=False, markup=False)
        rows.title = None
    console.print(rows)


def saying(status: Status) -> Callable[[str], None]:
    """A function that shows what is being done, in words that may hold names of others."""
    return lambda text: status.update(escape(text))


def units(value: float) -> str:
    """An error in units of u, short."""
    if value >= 1e6:
        return "∞" if value >= 1e299 else f"{value:.1e}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


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


def neuron(console: Console, lesson: dict[str, Any]) -> None:
    """The neuron's numbers, four ways."""
    columns = lesson["columns"]
    point = ", ".join(f"{name} = {value:g}" for name, value in lesson["point"].items())
    heads = [NAMES.get(name, name) for name in columns]
    rows = table("", *heads, title=f"One neuron: {point}", right=tuple(heads))
    for key in next(iter(columns.values())):
        rows.add_row(key, *(f"{column[key]:.4f}" for column in columns.values()))
    put(console, rows)


def saturation(console: Console, lesson: list[dict[str, Any]]) -> None:
    """Loss and gradient where the sigmoid saturates, in both forms."""
    keys = [key for key in lesson[0] if key not in ("z", "y")]
    heads = [_form(key) for key in keys]
    rows = table(
        "z",
        *heads,
        title="Saturated, label 1, float32: loss and dL/db by the form of the loss",
        right=("z",),
    )
    for row in lesson:
        cells = (f"{_short(row[key]['loss'])}, {_short(row[key]['gradient'])}" for key in keys)
        rows.add_row(f"{row['z']:g}", *cells)
    put(console, rows)
    console.print(
        "This project takes the loss from the logit: exact however large |z| is. From the "
        "activation,\nPyTorch clamps each logarithm at -100 and its gradient vanishes; plain JAX "
        "gives inf and nan.\nWhere float32 goes under its smallest normal number, PyTorch "
        "keeps the subnormal and XLA gives 0.\n"
    )


def _form(key: str) -> str:
    framework, _, form = key.partition(" ")
    return f"{NAMES[framework]} {form}"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def step_sizes(console: Console, lesson: dict[str, Any]) -> None:
    """Relative error of dL/dw against the step of finite differences."""
    best = {
        kind: min(lesson["sweep"], key=lambda row: row[kind]) for kind in ("forward", "central")
    }
    rows = table(
        "step",
        "forward difference",
        "central difference",
        title="Relative error of dL/dw, float64, by the step of a finite difference",
        right=("step", "forward difference", "central difference"),
    )
    for row in lesson["sweep"]:
        cells = [
            f"[bold]{row[kind]:.1e}  best[/]" if row is best[kind] else f"{row[kind]:.1e}      "
            for kind in ("forward", "central")
        ]
        rows.add_row(f"{row['step']:.0e}", *cells)
    put(console, rows)
    automatic = ", ".join(f"{NAMES[k]} {v:.1e}" for k, v in lesson["automatic"].items())
    console.print(f"Automatic differentiation has no step to choose: {automatic}.\n")


def cost(console: Console, lesson: list[dict[str, Any]]) -> None:
    """What a gradient costs: one reverse pass, or one forward pass for each parameter."""
    rows = table(
        "program",
        "framework",
        "parameters",
        "forward",
        "forward + backward",
        "ratio",
        "finite differences would take",
        title="The price of a gradient, float32, median times",
        right=("parameters", "forward", "forward + backward", "ratio"),
    )
    for row in lesson:
        rows.add_row(
            row["program"],
            NAMES[row["framework"]],
            f"{row['parameters']:,}",
            f"{row['forward_s'] * 1e3:.3g} ms",
            f"{row['forward_backward_s'] * 1e3:.3g} ms",
            f"{row['ratio']:.1f}",
            f"{row['finite_differences_forwards']:,} forwards, {row['finite_differences_s']:.3g} s",
        )
    put(console, rows)


def graphs(console: Console, lesson: dict[str, str]) -> None:
    """The neuron's graph as each framework records it."""
    console.print("[bold]The graph of the loss[/]: autograd's nodes, and the jaxpr")
    for name, drawn in lesson.items():
        console.print(f"\n{NAMES[name]}", style="bold")
        console.print(escape(drawn), highlight=False)
    console.print()


def accumulation(console: Console, lesson: dict[str, Any]) -> None:
    """What accumulates, and what a forgotten clearing does."""
    rows = table(
        "",
        *(NAMES[name] for name in lesson),
        title="Accumulation: norm of the gradient, relative to what it should be",
        right=tuple(NAMES[name] for name in lesson),
    )
    for key, text in (
        ("accumulated", "two batches accumulated, against their summed loss"),
        ("uncleared", "second step with nothing cleared, against that step alone"),
    ):
        rows.add_row(text, *(f"{ratios[key]:.15g}" for ratios in lesson.values()))
    put(console, rows)
    console.print(
        "PyTorch's backward() adds to .grad until zero_grad() clears it. JAX returns gradients "
        "as values:\nadding them is written out, and there is nothing to forget.\n"
    )


def parameters(console: Console, title: str, lesson: list[dict[str, Any]]) -> None:
    """Which part of the model holds how many parameters."""
    total = sum(row["parameters"] for row in lesson)
    rows = table(
        "part",
        "parameters",
        "share",
        title=f"{title}: {total:,} parameters",
        right=("parameters", "share"),
    )
    for row in lesson:
        rows.add_row(row["part"], f"{row['parameters']:,}", f"{row['share']:.1%}")
    put(console, rows)


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
