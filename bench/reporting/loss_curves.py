"""Loss curves of the report page."""

from dataclasses import dataclass

from bench.harness import terminal
from bench.harness.records import Json, Record
from bench.reporting.charts import CURVES, Chart, Curve, Scale, decades, even


@dataclass(frozen=True)
class Training:
    """A run of both frameworks, with charts of its losses and of their difference."""

    name: str
    run: dict[str, Json]
    charts: list[Chart]


def trainings(record: Record) -> list[Training]:
    """Every run of the record that both frameworks trained."""
    runs = {name: run for name, run in record["runs"].items() if len(run["frameworks"]) == 2}
    return [Training(name, run, [_losses(run), _difference(run)]) for name, run in runs.items()]


def _losses(run: dict[str, Json]) -> Chart:
    corpus, lines, dots = run["corpus"], [], []
    for side, metrics in run["frameworks"].items():
        steps = [(float(n), loss) for n, loss in enumerate(metrics["loss"], start=1)]
        checked = [(float(step), loss) for step, loss in metrics["validation"]]
        lines.append(Curve(terminal.NAMES[side], side, "line", steps))
        dots.append(Curve(f"{terminal.NAMES[side]} in validation", side, "dots", checked))
    drawn = [*lines, *dots]
    named = {"by frequency alone": "unigram_nats", "entropy rate": "entropy_rate"}
    levels = {name: corpus[key] for name, key in named.items() if key in corpus}
    heights = [y for curve in drawn for _, y in curve.points]
    ends = ", ".join(f"{curve.label} {curve.points[-1][1]:.4f}" for curve in drawn)
    return Chart(
        title=f"Loss on {corpus['name']}",
        text=f"Loss in nats per token over the steps; at the end {ends}.",
        labels=("step", "loss, nats per token"),
        x=_steps(run),
        y=even([*heights, *levels.values()], 300, 12),
        curves=drawn,
        levels=levels,
    )


def _difference(run: dict[str, Json]) -> Chart:
    torch_losses, jax_losses = (metrics["loss"] for metrics in run["frameworks"].values())
    gaps = [abs(a - b) / abs(b) for a, b in zip(torch_losses, jax_losses, strict=True)]
    points = [(float(n), gap) for n, gap in enumerate(gaps, start=1) if gap > 0]
    same = len(gaps) - len(points)
    return Chart(
        title="Difference of the two losses, relative",
        text=f"Largest relative difference {run['apart']:.1e}; equal to the last bit at {same:,} "
        f"of {len(gaps):,} steps, which have no dot.",
        labels=("step", "difference, relative"),
        x=_steps(run),
        y=decades([gap for _, gap in points] or [run["apart"] or 1.0], 170, 12),
        curves=[Curve("difference", "both", "dots", points)],
        tick="{:.0e}".format,
    )


def _steps(run: dict[str, Json]) -> Scale:
    longest = max(len(metrics["loss"]) for metrics in run["frameworks"].values())
    return even([0.0, float(longest)], *CURVES)
