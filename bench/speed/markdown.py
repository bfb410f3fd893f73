"""Markdown tables and figures of benchmark records."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.harness import frameworks, terminal
from bench.speed import derivation, tables
from bench.speed.record import load
from bench.speed.results import Result, SpeedRecord, Timing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = {"length": "length, tokens", "batch_size": "batch, sequences", "n_layers": "layers"}
COLOURS = dict(zip(frameworks.NAMES, ("#d1495b", "#2a7f9e"), strict=True))


def speed(argument: str) -> str:
    """Results of one workload of a record, ``RECORD::train``, and ratios to the first."""
    name, _, workload = argument.partition("::")
    record = load(name)
    blocks = []
    for rows in tables.groups(record):
        if rows[0].workload == workload:
            first = tables.first_timed(rows)
            head = [*tables.head(first), "parity, worst of its limit"]
            cells = [tables.cells(row, first, record.ratios) for row in rows]
            blocks.append(f"**{tables.title(rows[0])}**\n\n{_table(*tables.filled(head, cells))}")
    shown = [row for row in record.results if row.workload == workload]
    notes = [f"In brackets: {derivation.intervals(record.method, shown)}."]
    if any(row.timing and not row.timing.clean for row in shown):
        notes.append("\\* samples that other processes disturbed are in it.")
    return "\n\n".join([*blocks, " ".join(notes)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def ceilings(argument: str) -> str:
    """Rates of matrix products and of a copy, alone."""
    measured = load(argument).ceilings
    names = [product.name for product in measured[0].products]
    rows = []
    for one in measured:
        label = terminal.NAMES[one.framework]
        if one.framework == "torch":
            label += ", tuned" if one.fast else ", default"
        rates = [f"{product.flops_per_s / 1e9:.0f}" for product in one.products]
        rows.append([label, *rates, f"{one.copy_bytes_per_s / 1e9:.1f}"])
    return _table(["GFLOP/s", *names, "copy, GB/s"], rows)


def ladder(argument: str) -> str:
    """The times of every step of the ladders, framework by framework."""
    rows = []
    for row, timing in rungs(load(argument)):
        low, high = map(terminal.seconds, (timing.quartile_low_s, timing.quartile_high_s))
        memory = "" if timing.peak_bytes is None else f"{timing.peak_bytes / 2**30:.2f}"
        rows.append(
            [
                f"{terminal.NAMES[row.framework]}: {row.description}",
                terminal.seconds(timing.median_s),
                f"{low}–{high}",
                memory,
                terminal.seconds(timing.first_s),
            ]
        )
    return _table(["rung", "step", "quartiles", "GiB", "first step"], rows)


def rungs(record: SpeedRecord) -> Iterator[tuple[Result, Timing]]:
    """Every timed step of the ladders; of one that ran in both groups, the first time."""
    seen = set()
    for row in record.results:
        if row.on_ladder and row.timing and row.contestant not in seen:
            seen.add(row.contestant)
            yield row, row.timing


def growth(argument: str) -> str:
    """Exponents of a step's time."""
    rows = [
        [line.contestant, line.axis.replace("_", " "), *tables.growth_cells(line)]
        for line in load(argument).growth
    ]
    return _table(["", "size", "from", "to", "exponent", "R²"], rows)


def repeated(argument: str) -> str:
    """Ratios to the first contestant in two calls, ``RECORD::RECORD``, and how many agree."""
    first, _, second = argument.partition("::")
    pairs = derivation.repeated(load(first), load(second))
    rows = []
    for one, other, agree in pairs:
        if (one.numerator, one.workload) == (pairs[0][0].numerator, "train"):
            calls = [f"{r.ratio:.2f} ({r.low:.2f}–{r.high:.2f})" for r in (one, other)]
            name = f"{one.numerator} / {one.denominator}"
            rows.append([name, *calls, "yes" if agree else "**no**"])
    held = sum(agree for *_, agree in pairs)
    table = _table(["", "first call", "second call", "in each other's interval"], rows)
    return f"{table}\n\nOf the {len(pairs)} ratios of any two contestants, {held} agree."


def ladder_figure() -> "Figure":
    """A step's time on every step of the ladders, PyTorch beside JAX."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7.6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    timed = list(rungs(load("speed-ladder-cpu")))
    ink = matplotlib.rcParams["text.color"]
    for part, name in zip(axes, frameworks.NAMES, strict=True):
        rows = [(row, timing) for row, timing in timed if row.framework == name]
        labels = [row.description.replace(", ", ",\n", 1) for row, _ in rows]
        times = [timing.median_s for _, timing in rows]
        spread = [
            [timing.median_s - timing.quartile_low_s for _, timing in rows],
            [timing.quartile_high_s - timing.median_s for _, timing in rows],
        ]
        part.barh(range(len(rows)), times, xerr=spread, color=COLOURS[name], ecolor=ink)
        part.set_yticks(range(len(rows)), labels)
        part.tick_params(axis="y", labelsize=10)
        part.invert_yaxis()
        part.set(title=f"{terminal.NAMES[name]}, from naive to tuned")
        part.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("seconds a training step, quartiles marked")
    return figure


def growth_figure() -> "Figure":
    """A step's time against each size, on logarithmic axes, with the fitted exponent."""
    from matplotlib.figure import Figure

    record = load("speed-growth-cpu")
    figure = Figure(figsize=(9, 4), layout="constrained")
    names = list(dict.fromkeys(line.axis for line in record.growth))
    framework = {row.contestant: row.framework for row in record.results}
    ticks = (0.25, 0.5, 1, 2, 4)
    for part, axis in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        lines = [line for line in record.growth if line.axis == axis]
        for line in lines:
            colour = COLOURS[framework[line.contestant]]
            label = f"{line.contestant}: {line.exponent:.2f}"
            part.plot(line.sizes, line.median_s, "o-", color=colour, label=label)
        part.set(xscale="log", yscale="log", xlabel=_SIZES.get(axis, axis))
        part.set_xticks(lines[0].sizes, [str(size) for size in lines[0].sizes])
        part.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        part.minorticks_off()
        part.legend(frameon=False, fontsize=9, title="exponent", alignment="left")
        part.spines[["top", "right"]].set_visible(False)
    figure.suptitle("A training step's time as one size grows", fontsize="medium")
    figure.axes[0].set_ylabel("seconds a training step")
    return figure
