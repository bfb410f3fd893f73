"""Loss curves of the twins and their difference, drawn from the metrics of a run."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import terminal
from shared.files import write_bytes

Rows = Sequence[Mapping[str, Any]]
COLORS = {"torch": "#d1495b", "jax": "#00798c"}


def apart(ours: Rows, theirs: Rows) -> float:
    """The largest relative difference of two runs' losses at the same step."""
    return float(max((gap for _, gap in _gaps(ours, theirs)), default=0.0))


def _gaps(ours: Rows, theirs: Rows) -> list[tuple[int, float]]:
    twin = {row["step"]: row["loss"] for row in theirs}
    return [
        (row["step"], abs(row["loss"] - twin[row["step"]]) / abs(twin[row["step"]]))
        for row in ours
        if row["step"] in twin
    ]


def draw(folder: Path, runs: Mapping[str, Rows]) -> None:
    """``folder/loss.png``: every framework's losses and, where both are there, their difference."""
    figure = plot(runs)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(folder / "loss.png", picture.getvalue())


def plot(runs: Mapping[str, Rows], levels: Mapping[str, float] | None = None) -> Any:
    """A matplotlib figure of ``runs``, with ``levels`` as named horizontal lines."""
    # Not pyplot, which keeps figures and asks for a display.
    from matplotlib.figure import Figure

    gaps = _gaps(*runs.values()) if len(runs) == 2 else []
    figure = Figure(figsize=(8, 5.2 if gaps else 3.8), layout="constrained")
    axes = figure.subplots(
        2 if gaps else 1, 1, sharex=True, squeeze=False, height_ratios=[2.4, 1] if gaps else None
    )[:, 0]
    top = axes[0]
    styles = {"torch": {"linewidth": 2.4, "alpha": 0.55}, "jax": {"linewidth": 0.9}}
    for name, rows in runs.items():
        steps = [row["step"] for row in rows]
        label, style = terminal.NAMES[name], styles[name]
        top.plot(steps, [row["loss"] for row in rows], color=COLORS[name], label=label, **style)
        checked = [(row["step"], row["val_loss"]) for row in rows if "val_loss" in row]
        marker = {"torch": "o", "jax": "x"}[name]
        top.scatter(
            *zip(*checked, strict=True) if checked else ([], []),
            color=COLORS[name],
            marker=marker,
            s=34,
            zorder=3,
            label=f"{label}, validation",
        )
    for name, level in (levels or {}).items():
        top.axhline(level, color="#888888", linewidth=0.8, linestyle="--")
        top.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    top.set_ylabel("loss, nats per token")
    top.legend(frameon=False)
    if gaps:
        at, values = (np.array(column) for column in zip(*gaps, strict=True))
        drawn = np.where(values > 0, values, np.nan)  # equal to the last bit: no dot
        axes[1].semilogy(at, drawn, ".", markersize=2, color="#333333")
        axes[1].set_ylabel("difference,\nrelative")
    axes[-1].set_xlabel("step")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
    return figure
