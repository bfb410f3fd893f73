"""The figures of README and docs, drawn from records."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness.records import RESULTS, load
from bench.speed.markdown import growth_figure, ladder_figure
from bench.studies import tutorial_pictures
from bench.studies.training_runs import training_figure
from twingrad import outcome as twingrad_outcome
from twingrad.numerics import FLOAT64_RELATIVE, UNIT_ROUNDOFF
from twingrad.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each picture, and the records that it is drawn from.
PICTURES = {
    "equality": ("compare-cpu", "mutants-cpu"),
    "training": ("training-cpu",),
    "ladder": ("speed-ladder-cpu",),
    "growth": ("speed-growth-cpu",),
    **dict.fromkeys(tutorial_pictures.drawings(), (tutorial_pictures.RECORD,)),
}
# Each picture is drawn for a light and for a dark page, of which README and docs show the fitting.
INKS = {"": ("#1f2328", "#ffffff"), "-dark": ("#e6edf3", "#0d1117")}


def digest(picture: str) -> str:
    """The digest of the records that ``picture`` is drawn from."""
    content = b"".join((RESULTS / f"{name}.json").read_bytes() for name in PICTURES[picture])
    return hashlib.sha256(content).hexdigest()[:16]


def files(folder: Path) -> dict[Path, tuple[str, str]]:
    """Every picture's path in ``folder``, with its name and the name of its inks."""
    return {folder / f"{name}{ink}.svg": (name, ink) for name in PICTURES for ink in INKS}


def draw(name: str, ink: str, path: Path) -> None:
    """Draw the picture called ``name``, marked with a digest of its records."""
    note = f"records {digest(name)}"
    if drawing := tutorial_pictures.drawings().get(name):
        path.write_text(drawing(ink, note), encoding="utf-8")
        return
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context():
        matplotlib.rc("svg", hashsalt="twingrad")
        matplotlib.rc("font", family="sans-serif", size=11)
        foreground, background = INKS[ink]
        matplotlib.rc("text", color=foreground)
        matplotlib.rc("axes", edgecolor=foreground, labelcolor=foreground, facecolor=background)
        matplotlib.rc("axes", titlesize="medium")
        for axis in ("xtick", "ytick"):
            matplotlib.rc(axis, color=foreground)
        matplotlib.rc("figure", facecolor=background)
        figures = {
            "equality": equality_figure,
            "training": training_figure,
            "ladder": ladder_figure,
            "growth": growth_figure,
        }
        figure = figures[name]()
        metadata = {"Date": None, "Description": note}
        figure.savefig(path, format="svg", metadata=metadata)


def equality_figure() -> "Figure":
    """The distance of the sides, the limit, and the distance under planted bugs."""
    from matplotlib.figure import Figure

    outcomes = twingrad_outcome.outcomes(load("compare-cpu").as_object())
    figure = Figure(figsize=(9, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _draw_gap(left, outcomes)
    _draw_units(right, outcomes)
    return figure


def _draw_gap(axes: "Axes", outcomes: list[Outcome]) -> None:
    import matplotlib
    import numpy as np

    u = UNIT_ROUNDOFF["float64"]
    clean = [
        tensor.mutual_error_u * u
        for outcome in outcomes
        for gate in outcome.gates
        if gate.name == outcome.dtype == "float64"
        for tensor in gate.tensors
    ]
    planted = [
        row["factor"] * FLOAT64_RELATIVE
        for row in load("mutants-cpu")["mutants"]
        if row["gate"] == "float64" and row["factor"] and row["factor"] < 1e20
    ]
    bins = np.logspace(-17.5, 3, 83).tolist()
    lowest = bins[0] * 1.2
    axes.hist(np.maximum(clean, lowest), bins, color="#2a7f9e", label="every tensor\nof the twins")
    axes.hist(planted, bins, color="#d1495b", label="worst tensor under\neach planted bug")
    axes.axvline(
        FLOAT64_RELATIVE, color=matplotlib.rcParams["text.color"], linewidth=1, linestyle="--"
    )
    axes.annotate(
        "the gate, 1e-12",
        (FLOAT64_RELATIVE, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        va="top",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="relative distance between PyTorch and JAX\n(leftmost bar: identical bits)",
        ylabel="tensors",
        title="float64: equal, or a bug",
    )
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.9))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_units(axes: "Axes", outcomes: list[Outcome]) -> None:
    import numpy as np

    colours = {"activation": "#2a7f9e", "gradient": "#e0a030", "update": "#9a6fd0"}
    for kind, colour in colours.items():
        points = [
            (tensor.torch_error_u, tensor.jax_error_u)
            for outcome in outcomes
            if outcome.preset == "124m" and outcome.dtype == "float32"
            for gate in outcome.gates
            for tensor in gate.tensors
            if tensor.kind == kind
        ]
        x, y = np.maximum(np.array(points).T, 0.02)
        axes.scatter(x, y, s=9, color=colour, alpha=0.7, label=f"{kind}s", linewidths=0)
    line = np.logspace(-2, np.log10(128), 200)
    axes.fill_between(
        line, np.where(line <= 4, 1e-3, line / 4), np.minimum(np.maximum(4 * line, 4), 128),
        color="#888888", alpha=0.16, linewidth=0, label="allowed",
    )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(0.015, 160),
        ylim=(0.015, 160),
        xlabel="PyTorch's error, units of u",
        ylabel="JAX's error, units of u",
        title="float32: each side's own error,\nGPT-2 124M",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
