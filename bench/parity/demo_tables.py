"""Tables of the demonstrations that ``compare`` prints."""

from rich.console import Console
from rich.markup import escape

from bench.harness.terminal import NAMES, put, table
from bench.parity.demos import (
    Accumulation,
    Demonstrations,
    GradientCost,
    NeuronNumbers,
    Number,
    ParameterShare,
    SaturatedPoint,
    StepSizes,
)


def show(console: Console, title: str, shown: Demonstrations) -> None:
    """Print the demonstrations of the program ``title``."""
    if shown.neuron:
        neuron(console, shown.neuron)
    if shown.saturation:
        saturation(console, shown.saturation)
    if shown.graphs:
        graphs(console, shown.graphs)
    if shown.step_sizes:
        step_sizes(console, shown.step_sizes)
    if shown.cost:
        cost(console, shown.cost)
    if shown.accumulation:
        accumulation(console, shown.accumulation)
    if shown.parameters:
        parameters(console, title, shown.parameters)


def neuron(console: Console, numbers: NeuronNumbers) -> None:
    """The neuron's numbers, four ways."""
    columns = numbers.columns
    point = ", ".join(f"{name} = {value:g}" for name, value in numbers.point.items())
    heads = [NAMES.get(name, name) for name in columns]
    rows = table("", *heads, title=f"One neuron: {point}", right=tuple(heads))
    for key in next(iter(columns.values())):
        rows.add_row(key, *(f"{column[key]:.4f}" for column in columns.values()))
    put(console, rows)


def saturation(console: Console, points: list[SaturatedPoint]) -> None:
    """Loss and gradient where the sigmoid saturates, in both forms."""
    heads = [_form(key) for key in points[0].forms]
    rows = table(
        "z",
        *heads,
        title="Saturated, label 1, float32: loss and dL/db by the form of the loss",
        right=("z",),
    )
    for point in points:
        cells = (f"{_short(of.loss)}, {_short(of.gradient)}" for of in point.forms.values())
        rows.add_row(f"{point.z:g}", *cells)
    put(console, rows)
    console.print(
        "This project takes the loss from the logit: exact however large |z| is. From the "
        "activation, PyTorch clamps each logarithm at -100 and its gradient vanishes; plain JAX "
        "gives inf and nan. Where float32 goes under its smallest normal number, PyTorch "
        "keeps the subnormal and XLA gives 0.\n"
    )


def _form(key: str) -> str:
    framework, _, form = key.partition(" ")
    return f"{NAMES[framework]} {form}"


def _short(value: Number) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def step_sizes(console: Console, sizes: StepSizes) -> None:
    """Relative error of dL/dw against the step of finite differences."""
    best_forward = min(error.forward for error in sizes.sweep)
    best_central = min(error.central for error in sizes.sweep)
    rows = table(
        "step",
        "forward difference",
        "central difference",
        title="Relative error of dL/dw, float64, by the step of a finite difference",
        right=("step", "forward difference", "central difference"),
    )
    for error in sizes.sweep:
        cells = [
            f"[bold]{value:.1e}  best[/]" if value == best else f"{value:.1e}      "
            for value, best in ((error.forward, best_forward), (error.central, best_central))
        ]
        rows.add_row(f"{error.step:.0e}", *cells)
    put(console, rows)
    automatic = ", ".join(f"{NAMES[k]} {v:.1e}" for k, v in sizes.automatic.items())
    console.print(f"Automatic differentiation has no step to choose: {automatic}.\n")


def cost(console: Console, costs: list[GradientCost]) -> None:
    """The cost of a gradient: one reverse pass, or one forward pass for each parameter."""
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
    for row in costs:
        rows.add_row(
            row.program,
            NAMES[row.framework],
            f"{row.parameters:,}",
            f"{row.forward_s * 1e3:.3g} ms",
            f"{row.forward_backward_s * 1e3:.3g} ms",
            f"{row.ratio:.1f}",
            f"{row.finite_differences_forwards:,} forwards, {row.finite_differences_s:.3g} s",
        )
    put(console, rows)


def graphs(console: Console, by_framework: dict[str, str]) -> None:
    """The neuron's graph as each framework records it."""
    console.print("[bold]The graph of the loss[/]: autograd's nodes, and the jaxpr")
    for name, drawn in by_framework.items():
        console.print(f"\n{NAMES[name]}", style="bold")
        console.print(escape(drawn), highlight=False)
    console.print()


def accumulation(console: Console, ratios: dict[str, Accumulation]) -> None:
    """Gradients that accumulate, on purpose and by a forgotten clearing."""
    rows = table(
        "",
        *(NAMES[name] for name in ratios),
        title="Accumulation: norm of the gradient, relative to what it should be",
        right=tuple(NAMES[name] for name in ratios),
    )
    both = ratios.values()
    text = "two batches accumulated, against their summed loss"
    rows.add_row(text, *(f"{ratio.accumulated:.15g}" for ratio in both))
    text = "second step with nothing cleared, against that step alone"
    rows.add_row(text, *(f"{ratio.uncleared:.15g}" for ratio in both))
    put(console, rows)
    console.print(
        "PyTorch's backward() adds to .grad until zero_grad() clears it. JAX returns gradients "
        "as values: adding them is written out, and there is nothing to forget.\n"
    )


def parameters(console: Console, title: str, shares: list[ParameterShare]) -> None:
    """Which part of the model holds how many parameters."""
    total = sum(share.parameters for share in shares)
    rows = table(
        "part",
        "parameters",
        "share",
        title=f"{title}: {total:,} parameters",
        right=("parameters", "share"),
    )
    for share in shares:
        rows.add_row(share.part, f"{share.parameters:,}", f"{share.share:.1%}")
    put(console, rows)
