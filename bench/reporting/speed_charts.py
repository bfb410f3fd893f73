"""Tables and charts of the benchmark's records on the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.harness import terminal
from bench.reporting.charts import CURVES, Chart, Curve, Scale, decades, even
from bench.speed import tables
from bench.speed.results import Ceiling, Growth, Ratio, Result, Skipped, SpeedRecord, Timing

# Workloads in the order in which they are shown.
WORKLOADS = ("train", "forward-backward", "forward", "decode", "overhead", "cold")
AXES = {"batch_size": "batch size", "length": "length in tokens", "n_layers": "layers"}
# Where the bars begin and the longest ends, between the names and the times.
BARS = (148, 416)


@dataclass(frozen=True)
class Bar:
    """The times of one contestant."""

    contestant: str
    framework: str
    timing: Timing


@dataclass(frozen=True)
class Group:
    """Contestants that were timed in turn: their table and their times."""

    record: str
    title: str
    head: list[str]
    cells: list[list[str]]
    sides: list[str]
    bars: list[Bar]
    scale: Scale
    disturbed: bool


@dataclass(frozen=True)
class GrowthChart:
    """A step's time against one size that grows alone."""

    record: str
    axis: str
    sizes: list[float]
    lines: list[Growth]
    chart: Chart


@dataclass(frozen=True)
class Speed:
    """All of the benchmark's records; ceilings and skipped stages by the record's name."""

    groups: list[Group]
    growths: list[GrowthChart]
    ceilings: dict[str, tuple[Ceiling, ...]]
    skipped: dict[str, tuple[Skipped, ...]]


def speed(records: Mapping[str, SpeedRecord]) -> Speed | None:
    """The records of the benchmark, the most important workload first; none without records."""
    if not records:
        return None
    groups = [
        (name, rows)
        for name, record in records.items()
        for rows in tables.groups(record)
        if rows[0].workload != "growth"
    ]
    groups.sort(key=lambda group: _order(group[1][0]))
    axes = [
        (name, axis)
        for name, record in records.items()
        for axis in dict.fromkeys(line.axis for line in record.growth)
    ]
    return Speed(
        groups=[_group(name, rows, records[name].ratios) for name, rows in groups],
        growths=[_growth(name, axis, records[name]) for name, axis in axes],
        ceilings={name: record.ceilings for name, record in records.items() if record.ceilings},
        skipped={name: record.skipped for name, record in records.items() if record.skipped},
    )


def _order(row: Result) -> tuple[int, bool]:
    known = row.workload in WORKLOADS
    place = WORKLOADS.index(row.workload) if known else len(WORKLOADS)
    return place, row.on_ladder


def _group(name: str, rows: Sequence[Result], ratios: Sequence[Ratio]) -> Group:
    bars = [Bar(row.contestant, row.framework, row.timing) for row in rows if row.timing]
    first = tables.first_timed(rows)
    head = [*tables.head(first), "parity, worst of its limit", "what it is"]
    cells = [[*tables.cells(row, first, ratios), row.description] for row in rows]
    head, cells = tables.filled(head, cells)
    longest = [bar.timing.quartile_high_s for bar in bars]
    return Group(
        record=f"{name}.json",
        title=tables.title(rows[0]),
        head=head,
        cells=cells,
        sides=[terminal.NAMES.get(row.framework, "") for row in rows],
        bars=bars,
        scale=even(longest or [1.0], *BARS, zero=True, steps=3),
        disturbed=not all(bar.timing.clean for bar in bars),
    )


def _growth(name: str, axis: str, record: SpeedRecord) -> GrowthChart:
    lines = [line for line in record.growth if line.axis == axis]
    framework = {row.contestant: row.framework for row in record.results}
    sizes = sorted({size for line in lines for size in line.sizes})
    times = [time for line in lines for time in line.median_s]
    grown = ", ".join(f"{line.contestant} {line.exponent:.2f}" for line in lines)
    curves = []
    for line in lines:
        side = framework[line.contestant]
        points = list(zip(map(float, line.sizes), line.median_s, strict=True))
        curves.append(Curve(line.contestant, side, "line", points))
        curves.append(Curve("", side, "dots", points))
    chart = Chart(
        title=f"A step's time against {AXES.get(axis, axis)}",
        text=f"Both scales are logarithmic. Exponents: {grown}.",
        labels=(AXES.get(axis, axis), "time of a step"),
        x=Scale(sizes[0], sizes[-1], *CURVES, tuple(sizes), log=True),
        y=decades(times, 260, 12),
        curves=curves,
        tick=terminal.seconds,
    )
    return GrowthChart(f"{name}.json", AXES.get(axis, axis), sizes, lines, chart)
