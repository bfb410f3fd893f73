"""Bars, growth curves and tables of the benchmark on the report page."""

from dataclasses import dataclass
from typing import Any

from bench.harness import terminal
from bench.harness.records import Record
from bench.reporting.charts import CURVES, Chart, Curve, Scale, decades, even
from bench.speed import tables as speed_tables

# Workloads in the order in which they are shown.
WORKLOADS = ("train", "forward-backward", "forward", "decode", "overhead", "cold")
AXES = {"batch_size": "batch size", "length": "length in tokens", "n_layers": "layers"}
# Where the bars begin and the longest ends, between the names and the times.
BARS = (148, 416)


@dataclass(frozen=True)
class Race:
    """Contestants that raced one another: their table and their times."""

    record: str
    title: str
    head: list[str]
    cells: list[list[str]]
    timed: list[dict[str, Any]]
    scale: Scale
    disturbed: bool


@dataclass(frozen=True)
class Growth:
    """A step's time against one size that grows alone."""

    record: str
    axis: str
    sizes: list[int]
    rows: list[dict[str, Any]]
    chart: Chart


@dataclass(frozen=True)
class Speed:
    """All of the benchmark's records."""

    races: list[Race]
    growths: list[Growth]
    ceilings: dict[str, list[dict[str, Any]]]
    skipped: dict[str, list[dict[str, Any]]]


def speed(loaded: dict[str, Record]) -> Speed | None:
    """All records of the benchmark, the most important workload first; none without any."""
    if not loaded:
        return None
    records = {name: record.as_object() for name, record in loaded.items()}
    groups = [
        (name, rows)
        for name, found in records.items()
        for rows in speed_tables.groups(found)
        if rows[0]["workload"] != "growth"
    ]
    groups.sort(key=lambda group: _order(group[1][0]))
    axes = [
        (name, axis)
        for name, found in records.items()
        for axis in dict.fromkeys(one["axis"] for one in found["growth"])
    ]
    return Speed(
        races=[_race(name, rows, records[name]["ratios"]) for name, rows in groups],
        growths=[_growth(name, axis, records[name]) for name, axis in axes],
        ceilings={name: found["ceilings"] for name, found in records.items() if found["ceilings"]},
        skipped={name: found["skipped"] for name, found in records.items() if found["skipped"]},
    )


def _order(row: dict[str, Any]) -> tuple[int, bool]:
    known = row["workload"] in WORKLOADS
    place = WORKLOADS.index(row["workload"]) if known else len(WORKLOADS)
    return place, row["tier"] == "ladder"


def _race(name: str, rows: list[dict[str, Any]], ratios: list[dict[str, Any]]) -> Race:
    timed = [row for row in rows if row["status"] == "timed"]
    first = timed[0] if timed else None
    head = [*speed_tables.HEAD, "parity, worst of its limit", "what it is"]
    if first:
        head[head.index("ratio")] = f"ratio to {first['contestant']}"
    cells = [
        [*speed_tables.cells(row, first, ratios), row["about"].get("about", "")] for row in rows
    ]
    kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
    longest = [row["quartile_high_s"] for row in timed]
    return Race(
        record=f"{name}.json",
        title=speed_tables.title(rows[0]),
        head=[head[i] for i in kept],
        cells=[[row[i] for i in kept] for row in cells],
        timed=timed,
        scale=even(longest or [1.0], *BARS, zero=True, steps=3),
        disturbed=not all(row["clean"] for row in timed),
    )


def _growth(name: str, axis: str, found: dict[str, Any]) -> Growth:
    rows = [one for one in found["growth"] if one["axis"] == axis]
    framework = {row["contestant"]: row["framework"] for row in found["results"]}
    sizes = sorted({size for one in rows for size in one["sizes"]})
    times = [time for one in rows for time in one["median_s"]]
    grown = ", ".join(f"{one['contestant']} {one['exponent']:.2f}" for one in rows)
    lines = []
    for one in rows:
        side = framework[one["contestant"]]
        points = list(zip(map(float, one["sizes"]), one["median_s"], strict=True))
        lines.append(Curve(one["contestant"], side, "line", points))
        lines.append(Curve("", side, "dots", points))
    chart = Chart(
        title=f"A step's time against {AXES.get(axis, axis)}",
        text=f"Both scales are logarithmic. Exponents: {grown}.",
        labels=(AXES.get(axis, axis), "time of a step"),
        x=Scale(sizes[0], sizes[-1], *CURVES, tuple(sizes), log=True),
        y=decades(times, 260, 12),
        curves=lines,
        tick=terminal.seconds,
    )
    return Growth(f"{name}.json", AXES.get(axis, axis), sizes, rows, chart)
