"""The report: one HTML page with the twins side by side and what was measured of them.

``make`` returns the page, ``write`` stores it. Code comes from the sources of both sides, figures
from the records in ``bench/results``; what is absent leaves its section out.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.harness import records as harness_records
from bench.harness import terminal
from bench.parity import tables
from bench.reporting.charts import Chart, Curve, Scale, decades, even
from bench.reporting.errors import SHADES, layers
from bench.reporting.source_diff import rooms
from bench.speed import tables as speed_tables
from bench.studies import diagnosis_accuracy
from shared.files import write_bytes
from twingrad import outcome as twingrad_outcome
from twingrad.numerics import UNIT_ROUNDOFF
from twingrad.outcome import Gate, Outcome

COMPARISON, TRAINING, MUTANTS, DEFAULTS, TIMES, DIAGNOSIS = (
    f"{name}-cpu"
    for name in ("compare", "training", "mutants", "defaults", "definitions", "diagnosis")
)
# Workloads in the order in which they are shown.
WORKLOADS = ("train", "forward-backward", "forward", "decode", "overhead", "cold")
AXES = {"batch_size": "batch size", "length": "length in tokens", "n_layers": "layers"}


def make(comparison: dict[str, Any] | None = None) -> str:
    """The page; ``comparison`` is what ``compare --json`` writes, by default the record of it.

    Raises ``ValueError`` naming a record that is not what its command writes.
    """
    given = recorded(COMPARISON) if comparison is None else comparison
    training, mutants, diagnosis = map(recorded, (TRAINING, MUTANTS, DIAGNOSIS))
    times = recorded(TIMES)
    speeds = {
        p.stem: harness_records.load(p.stem)
        for p in sorted(harness_records.RESULTS.glob("speed-*.json"))
    }
    origin = f"{COMPARISON}.json" if comparison is None else "the comparison given"
    used = {origin: given}
    names = (TIMES, DEFAULTS, TRAINING, MUTANTS, DIAGNOSIS, *speeds)
    used |= {f"{name}.json": recorded(name) for name in names}
    sections: dict[str, Any] = {}
    with harness_records.showing(origin):
        found = twingrad_outcome.outcomes(given) if given else []
        sections |= {"summary": summary(given, found) if given else None}
        sections |= {"rooms": rooms(found, times), "times": times, "layers": layers(found)}
    with harness_records.showing(DEFAULTS):
        sections["defaults"] = defaults()
    with harness_records.showing(TRAINING):
        sections["training"] = trainings(training) if training else []
    with harness_records.showing(MUTANTS):
        sections["planted"] = planted(mutants) if mutants else None
    with harness_records.showing(DIAGNOSIS):
        sections["diagnosed"] = diagnosed(diagnosis) if diagnosis else None
    with harness_records.showing("a record of the benchmark"):
        sections["speed"] = speed(speeds)
    with harness_records.showing("a record"):
        return _page(
            origin=origin,
            records={
                "defaults": DEFAULTS,
                "training": TRAINING,
                "planted": MUTANTS,
                "times": TIMES,
                "diagnosed": DIAGNOSIS,
            },
            environments={name: found["environment"] for name, found in used.items() if found},
            **sections,
        )


def write(path: Path, comparison: dict[str, Any] | None = None) -> None:
    """Write the page whole or not at all; ``ValueError`` says why it cannot be written."""
    write_bytes(path, make(comparison).encode())


def _page(**content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"units": terminal.units, "seconds": terminal.seconds}
    environment.filters |= {"ticks": ticks, "breaks": breaks, "slug": slug, "power": power}
    environment.globals |= {"NAMES": terminal.NAMES, "RULES": tables.RULES, "SHADES": SHADES}
    return environment.get_template("report.html").render(content)


def recorded(name: str) -> dict[str, Any] | None:
    """The committed record ``name``, or none."""
    return (
        harness_records.load(name) if (harness_records.RESULTS / f"{name}.json").exists() else None
    )


def defaults() -> list[dict[str, str]]:
    """Rows of the record of defaults that differ; none where there is no such record."""
    found = recorded(DEFAULTS)
    return found["rows"] if found else []


# Words.


def slug(text: str) -> str:
    """``text`` as an identifier of the page."""
    return re.sub(r"[^\w]+", "-", text).strip("-")


def breaks(text: str) -> Markup:
    """A dotted name that may be broken behind its dots."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[.:_])(?=\w)", text))


def ticks(text: str) -> Markup:
    """``text`` with what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    coded = (Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))
    return Markup("").join(coded)


def power(dtype: str) -> Markup:
    """The unit roundoff of ``dtype`` as a power of two."""
    return Markup("2<sup>{}</sup>").format(f"{math.log2(UNIT_ROUNDOFF[dtype]):.0f}")


# The verdict.


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a comparison came to: every gate, and the tensor nearest to its limit."""

    ok: bool
    programs: int
    tensors: int
    seconds: float
    gates: list[tuple[Outcome, Gate]]
    diverging: list[Outcome]

    @property
    def worst(self) -> tuple[Outcome, Gate]:
        """The gate, with its outcome, whose worst tensor comes nearest to its limit."""
        return max(self.gates, key=lambda pair: (not pair[1].ok, pair[1].worst.factor))

    @property
    def by_program(self) -> dict[tuple[str, str | None], list[tuple[Outcome, Gate]]]:
        """Gates of each program and preset, in the order of the comparison."""
        found: dict[tuple[str, str | None], list[tuple[Outcome, Gate]]] = {}
        for outcome, gate in self.gates:
            found.setdefault((outcome.program, outcome.preset), []).append((outcome, gate))
        return found

    @property
    def held(self) -> int:
        """How many gates hold."""
        return sum(gate.ok for _, gate in self.gates)

    @property
    def dtypes(self) -> list[str]:
        """Dtypes that were judged and have a unit, widest first."""
        seen = {outcome.dtype for outcome, _ in self.gates}
        return [dtype for dtype in UNIT_ROUNDOFF if dtype in seen]


def summary(report: dict[str, Any], found: list[Outcome]) -> Summary | None:
    """What the outcomes of ``report`` came to; none where nothing was judged."""
    gates = [(outcome, gate) for outcome in found for gate in outcome.gates if gate.tensors]
    if not gates:
        return None
    return Summary(
        ok=report["ok"] and all(outcome.ok for outcome in found),
        programs=len({(outcome.program, outcome.preset) for outcome in found}),
        tensors=sum(len(gate.tensors) for _, gate in gates),
        seconds=report.get("seconds", sum(outcome.seconds for outcome in found)),
        gates=gates,
        diverging=[outcome for outcome in found if not outcome.ok],
    )


# Where the curves begin and end.
CURVES = (84, 706)


# Loss curves.


@dataclass(frozen=True)
class Training:
    """A run of both frameworks: its losses, their difference, and what is said of them."""

    name: str
    run: dict[str, Any]
    charts: list[Chart]


def trainings(found: dict[str, Any]) -> list[Training]:
    """Every run of the record that both frameworks trained."""
    runs = {name: run for name, run in found["runs"].items() if len(run["frameworks"]) == 2}
    return [Training(name, run, [_losses(run), _difference(run)]) for name, run in runs.items()]


def _losses(run: dict[str, Any]) -> Chart:
    corpus, lines, dots = run["corpus"], [], []
    for side, figures in run["frameworks"].items():
        steps = [(float(n), loss) for n, loss in enumerate(figures["loss"], start=1)]
        checked = [(float(step), loss) for step, loss in figures["validation"]]
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


def _difference(run: dict[str, Any]) -> Chart:
    ours, theirs = (figures["loss"] for figures in run["frameworks"].values())
    gaps = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
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


def _steps(run: dict[str, Any]) -> Scale:
    longest = max(len(figures["loss"]) for figures in run["frameworks"].values())
    return even([0.0, float(longest)], *CURVES)


# Planted bugs.


@dataclass(frozen=True)
class Planted:
    """Bugs and how each side's gates took them, with counts by gate."""

    caught: int
    total: int
    clean_ok: bool
    gates: dict[str, dict[str, int]]
    bugs: list[tuple[str, dict[str, dict[str, Any]]]]


def planted(found: dict[str, Any]) -> Planted:
    """The record of planted bugs, one entry a bug."""
    by_name: dict[str, dict[str, dict[str, Any]]] = {}
    gates: dict[str, dict[str, int]] = {}
    for row in found["mutants"]:
        by_name.setdefault(row["name"], {})[row["side"]] = row
        if row["caught"]:
            count = gates.setdefault(row["gate"], dict.fromkeys(terminal.NAMES, 0))
            count[row["side"]] += 1
    bugs = [(next(iter(sides.values()))["about"], sides) for sides in by_name.values()]
    return Planted(
        caught=sum(row["caught"] for row in found["mutants"]),
        total=len(found["mutants"]),
        clean_ok=found["clean_ok"],
        gates=gates,
        bugs=bugs,
    )


@dataclass(frozen=True)
class Diagnosed:
    """What diagnosis said of planted bugs, and how often it was right."""

    summary: list[tuple[str, int, int]]
    bugs: list[dict[str, Any]]


def diagnosed(found: dict[str, Any]) -> Diagnosed:
    """The record of diagnoses."""
    return Diagnosed(
        summary=diagnosis_accuracy.diagnosed(found),
        bugs=found["bugs"],
    )


# The benchmark.


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


def speed(records: dict[str, dict[str, Any]]) -> Speed | None:
    """What the records of the benchmark hold, the most asked-for workload first."""
    if not records:
        return None
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


# Where the bars begin and the longest ends, between the names and the times.
BARS = (148, 416)


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
