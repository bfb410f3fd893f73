"""Loss curves of both frameworks and their difference, drawn from the metrics of a run."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.harness import terminal
from bench.training.metrics import StepLoss
from twingrad.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"torch": "#d1495b", "jax": "#00798c"}
# JAX's line is the thinner one, drawn over PyTorch's.
_WIDTHS = {"torch": 2.4, "jax": 0.9}
_OPACITIES = {"torch": 0.55, "jax": 1.0}
_MARKERS = {"torch": "o", "jax": "x"}
# Marks of the texts whose losses were measured before and after.
_SHAPES = ("s", "D")
# A run is drawn as so many means of its noisy losses.
_WINDOWS = 60


def apart(left: Sequence[StepLoss], right: Sequence[StepLoss]) -> float:
    """The largest relative difference of two runs' losses at the same step."""
    return float(max((gap for _, gap in _gaps(left, right)), default=0.0))


def _gaps(left: Sequence[StepLoss], right: Sequence[StepLoss]) -> list[tuple[int, float]]:
    losses = {row.step: row.loss for row in right}
    return [
        (row.step, abs(row.loss - losses[row.step]) / abs(losses[row.step]))
        for row in left
        if row.step in losses
    ]


def draw(
    folder: Path,
    runs: Mapping[str, Sequence[StepLoss]],
    measured: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    title: str = "",
) -> None:
    """``folder/loss.png``: every framework's losses and, where both are there, their difference.

    ``measured`` are further losses by the name of their text, (step, loss) each.
    """
    figure = plot(runs, measured=measured, title=title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(folder / "loss.png", picture.getvalue())


def plot(
    runs: Mapping[str, Sequence[StepLoss]],
    levels: Mapping[str, float] | None = None,
    measured: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    title: str = "",
) -> "Figure":
    """A matplotlib figure of ``runs``, with ``levels`` as named horizontal lines."""
    import matplotlib

    # Not pyplot, which keeps figures and asks for a display.
    from matplotlib.figure import Figure

    ink = matplotlib.rcParams["text.color"]
    gaps = _gaps(*runs.values()) if len(runs) == 2 else []
    figure = Figure(figsize=(8, 5.4 if gaps else 4.2), layout="constrained")
    axes = figure.subplots(
        2 if gaps else 1, 1, sharex=True, squeeze=False, height_ratios=[2.4, 1] if gaps else None
    )[:, 0]
    for name, rows in runs.items():
        _plot_losses(axes[0], name, rows)
    for (name, points), shape in zip((measured or {}).items(), _SHAPES, strict=False):
        _plot_measured(axes[0], name, points, shape)
    for name, level in (levels or {}).items():
        axes[0].axhline(level, color="#888888", linewidth=0.8, linestyle="--")
        axes[0].annotate(
            name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes[0].set_ylabel("loss, nats per token")
    if title:
        axes[0].set_title(textwrap.fill(title, 80))
    axes[0].legend(frameon=False)
    if gaps:
        at, values = (np.array(column) for column in zip(*gaps, strict=True))
        drawn = np.where(values > 0, values, np.nan)  # equal to the last bit: no dot
        axes[1].semilogy(at, drawn, ".", markersize=2, color=ink)
        axes[1].set_ylabel("difference,\nrelative")
    axes[-1].set_xlabel("step")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
    return figure


def _plot_losses(axes: "Axes", name: str, rows: Sequence[StepLoss]) -> None:
    """One framework's training losses, their mean over some steps, and its validation losses."""
    label, color = terminal.NAMES[name], COLORS[name]
    steps = np.array([row.step for row in rows])
    losses = np.array([row.loss for row in rows])
    axes.plot(steps, losses, color=color, linewidth=0.6, alpha=0.25)
    window = max(len(rows) // _WINDOWS, 1)
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(
        steps[(window - 1) // 2 :][: len(means)],
        means,
        color=color,
        label=f"{label}, mean of {window} steps" if window > 1 else label,
        linewidth=_WIDTHS[name],
        alpha=_OPACITIES[name],
    )
    validated = [(row.step, row.val_loss) for row in rows if row.val_loss is not None]
    axes.scatter(
        [step for step, _ in validated],
        [loss for _, loss in validated],
        color=color,
        marker=_MARKERS[name],
        s=34,
        zorder=3,
        label=f"{label}, validation",
    )


def _plot_measured(
    axes: "Axes", name: str, points: Sequence[tuple[int, float]], shape: str
) -> None:
    """Losses of one text, each with its value, joined by a dashed line."""
    steps, losses = zip(*points, strict=True)
    axes.plot(steps, losses, shape, color="#666666", linestyle="--", linewidth=1, label=name)
    for step, loss in points:
        is_left = step == min(steps)
        axes.annotate(
            f"{loss:.2f}",
            (step, loss),
            xytext=(6 if is_left else -6, 6),
            textcoords="offset points",
            ha="left" if is_left else "right",
        )
