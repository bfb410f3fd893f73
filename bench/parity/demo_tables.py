"""Tables of the demonstrations that ``compare`` prints."""

from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.harness.terminal import NAMES, put, table


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
