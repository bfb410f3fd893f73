"""The report: one HTML page with the twins side by side and every measurement of them.

``make`` returns the page, ``write`` stores it. Code comes from the sources of both sides, numbers
from the records in ``bench/results``; a section whose record is absent is left out.
"""

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.harness import records, terminal
from bench.harness.records import Json, Record
from bench.parity import tables
from bench.reporting import phrases, source_diff, words
from bench.reporting.errors import SHADES, layers
from bench.reporting.loss_curves import trainings
from bench.reporting.places import judged, places_of
from bench.reporting.planted_bugs import diagnosed, planted
from bench.reporting.speed_charts import speed
from bench.reporting.verdict import summary
from bench.speed.results import SpeedRecord
from twingrad import outcome as twingrad_outcome
from twingrad import page as twingrad_page
from twingrad.anchors import Anchors, slug
from twingrad.files import write_bytes
from twingrad.numerics import Verdict

COMPARISON, TRAINING, MUTANTS, DEFAULTS, TIMES, DIAGNOSIS = (
    f"{name}-cpu"
    for name in ("compare", "training", "mutants", "defaults", "definitions", "diagnosis")
)
T = TypeVar("T")


def make(comparison: dict[str, Json] | None = None) -> str:
    """The page; ``comparison`` is the JSON object of a comparison, by default the record of one.

    Raises ``ValueError`` naming a record that is not what its command writes.
    """
    origin = f"{COMPARISON}.json" if comparison is None else "the comparison given"
    compared = recorded(COMPARISON) if comparison is None else Record.of(comparison, origin)
    times = recorded(TIMES)
    speeds = {
        path.stem: records.load(path.stem) for path in sorted(records.RESULTS.glob("speed-*.json"))
    }
    names = (TIMES, DEFAULTS, TRAINING, MUTANTS, DIAGNOSIS, *speeds)
    used = {origin: compared} | {f"{name}.json": recorded(name) for name in names}
    with records.showing(origin):
        outcomes = twingrad_outcome.outcomes(compared.as_object()) if compared else []
        sections: dict[str, object] = {
            "summary": summary(compared, outcomes) if compared else None,
            "files": source_diff.twin_files(outcomes, times),
            "phrases": phrases.families(),
            "times": times.body if times else None,
            "layers": layers(outcomes),
            "gates": (gates := judged(outcomes)),
            "places": places_of(gates),
        }
    sections["defaults"] = _section(DEFAULTS, lambda record: record["rows"])
    sections["training"] = _section(TRAINING, trainings)
    sections["planted"] = _section(MUTANTS, planted)
    sections["diagnosed"] = _section(DIAGNOSIS, diagnosed)
    with records.showing("a record of the benchmark"):
        measured = {name: SpeedRecord.from_json(r.as_object()) for name, r in speeds.items()}
        sections["speed"] = speed(measured)
    with records.showing("a record"):
        return _page(
            origin=origin,
            records={
                "defaults": DEFAULTS,
                "training": TRAINING,
                "planted": MUTANTS,
                "times": TIMES,
                "diagnosed": DIAGNOSIS,
            },
            environments={name: record.environment for name, record in used.items() if record},
            **sections,
        )


def write(path: Path, comparison: dict[str, Json] | None = None) -> None:
    """Write the page whole or not at all; ``ValueError`` says why it cannot be written."""
    write_bytes(path, make(comparison).encode(errors="replace"))


def recorded(name: str) -> Record | None:
    """The committed record ``name``, or none."""
    return records.load(name) if records.path_of(name).exists() else None


def _measured(gate: str, dtype: str, tensor: Verdict) -> tuple[float | None, ...]:
    """The errors that the gate measures, in units of u: PyTorch's, JAX's, and how far apart."""
    return astuple(twingrad_outcome.measured_errors(gate, dtype, tensor))


def _section(name: str, view: Callable[[Record], T]) -> T | None:
    """The view of a record that a section of the page shows; none without the record."""
    record = recorded(name)
    with records.showing(name):
        return view(record) if record else None


def _page(**content: object) -> str:
    environment = Environment(
        loader=PackageLoader("bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"units": terminal.units, "seconds": terminal.seconds}
    environment.filters |= {"ticks": words.ticks, "breaks": words.breaks}
    environment.filters |= {"slug": slug, "power": words.power}
    environment.filters["farther_off"] = twingrad_page.farther_off
    environment.globals |= {"NAMES": terminal.NAMES, "RULES": tables.RULES, "SHADES": SHADES}
    environment.globals |= {"MEASURED": (*terminal.NAMES.values(), "apart"), "measured": _measured}
    environment.globals |= {"new_anchors": Anchors, "policy": twingrad_page.policy()}
    environment.globals["web"] = lambda name: Markup(twingrad_page.web(name))
    return environment.get_template("report.html").render(content)
