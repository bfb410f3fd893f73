"""Diagnosis of pairs drawn at random: right ones, and ones in which a change is planted.

``python -m bench.studies random-pairs`` draws models by number: their layers and sizes, what kind
of model JAX's version is, how its parameters lie, and what is computed in float32 whatever it is
given, on both sides, on one, or on none. Each is written in PyTorch and in JAX, and the two are the
same model, so that no finding is right. In every ``EVERY``th a change is planted in JAX's version
as well, and the largest finding must be at its place. An existing file is continued, as long as no
source has changed since; ``--most N`` stops after N of them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bench.harness import frameworks, machine, records
from bench.harness.records import Record
from bench.studies import sources
from bench.studies.random_models import drawing
from bench.studies.random_models.drawing import Change
from bench.studies.random_models.specification import KINDS, Specification
from bench.studies.study import DIAGNOSING, Study, StudyOptions, of_record

if TYPE_CHECKING:
    from twingrad.result import Findings

PAIRS, EVERY = 200, 4
KEPT = 25  # diagnoses between two times that what JAX has compiled is forgotten
TITLES = {
    "nnx": "Flax NNX",
    "linen": "Flax Linen",
    "equinox": "Equinox",
    "haiku": "Haiku",
    "function": "a plain function",
}
SOURCES = (
    "bench/studies/random_pairs.py",
    "bench/studies/random_models/*.py",
    *DIAGNOSING,
)


class Row(TypedDict):
    """One diagnosis: of the right pair, or of that with ``planted`` at ``place``.

    ``right`` says whether it was right, ``said`` what the first finding or the refusal says.
    """

    number: int
    kind: str
    model: str
    planted: str | None
    place: str | None
    right: bool
    said: str


class Report(TypedDict, total=False):
    """The record: a mark of the sources, the machine, and the rows."""

    sources: str
    environment: object
    rows: list[Row]


def _run(options: StudyOptions, path: Path) -> int:
    """Diagnose the pairs that the file lacks, and write it after each; 1 where one was wrong."""
    report = begun(path)
    report["environment"] = machine.environment(frameworks.both(), "cpu")
    jobs = list(_jobs(len(report["rows"])))
    for job in jobs if options.most is None else jobs[: options.most]:
        row = job()
        report["rows"].append(row)
        print(line(row), flush=True)
        records.write_json(path, {**report})
    for text in told(report["rows"]):
        print(text)
    return 0 if all(row["right"] for row in report["rows"]) else 1


def begun(path: Path) -> Report:
    """The report in the file, if it was made of the sources as they are now; else an empty one."""
    new: Report = {"sources": sources.digest(SOURCES), "rows": []}
    if not path.exists():
        return new
    try:
        report: Report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no record ({error}): name another file") from None
    return report if report.get("sources") == new["sources"] else new


def _jobs(done: int) -> Iterator[Callable[[], Row]]:
    """What is left to do, in the order of the record."""
    jobs: list[Callable[[], Row]] = []
    for number in range(PAIRS):
        jobs.append(partial(diagnosed, number, planted=False))
        if number % EVERY == EVERY - 1:
            jobs.append(partial(diagnosed, number, planted=True))
    yield from jobs[done:]


def diagnosed(number: int, planted: bool) -> Row:
    """Diagnose the pair with this number, with its change if one is ``planted``."""
    import jax

    from bench.studies.random_models import building  # with which both frameworks come
    from twingrad.diagnosis import pairs

    if number % KEPT == 0:
        jax.clear_caches()  # type: ignore[no-untyped-call]

    spec = drawing.specification(number)
    change = drawing.change(spec) if planted else None
    row: Row = {
        "number": number,
        "kind": spec.kind,
        "model": spec.summary(),
        "planted": change.words if change else None,
        "place": change.place if change else None,
        "right": False,
        "said": "",
    }
    try:
        found = pairs.diagnose(building.pair(spec, change.spec if change else None))
    except ValueError as error:
        row["said"] = f"refused: {' '.join(str(error).split())[:300]}"
        return row
    row["right"] = _is_at(found, spec, change) if change else not found
    row["said"] = f"{found[0].stage} of {found[0].where}: {found[0].cause}" if found else ""
    return row


def _is_at(found: "Findings", spec: Specification, change: Change) -> bool:
    """Whether the largest finding is at the change, or within that module.

    A plain function has no modules: of what it does, all is the model's.
    """
    if not found:
        return False
    where = found[0].where.partition(" (")[0]
    if spec.kind == "function" and change.place != "loss":
        return where == "model"
    return where == change.place or where.startswith(f"{change.place}.")


def line(row: Row) -> str:
    """A row for a terminal."""
    planted = f", {row['planted']} at {row['place']}" if row["planted"] else ""
    verdict = "right" if row["right"] else "wrong"
    return (
        f"{row['number']} {row['model']}{planted}: {verdict}{', ' if row['said'] else ''}"
        + (row["said"])
    )


Count = tuple[str, int, int, int, int]


def counts(rows: Sequence[Row]) -> list[Count]:
    """Of each kind of model: equal pairs, of how many; changes located, of how many."""
    made = []
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        right = [row["right"] for row in own if row["planted"] is None]
        wrong = [row["right"] for row in own if row["planted"] is not None]
        made.append((TITLES[kind], sum(right), len(right), sum(wrong), len(wrong)))
    return made


def told(rows: Sequence[Row]) -> Iterator[str]:
    """The counts, a line for each kind of model."""
    for title, equal, pairs, located, changes in counts(rows):
        yield f"{title}: {equal} of {pairs} equal, {located} of {changes} changes located"


def markdown(record: Record) -> str:
    """A table of the counts, with their sums."""
    rows = counts(record["rows"])
    table = ["| JAX's version | right pairs: no finding | of | changes: located | of |"]
    table += ["|---|---|---|---|---|"]
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    for title, *numbers in (*rows, ("all", *sums)):
        table.append(f"| {title} | {' | '.join(map(str, numbers))} |")
    return "\n".join(table)


STUDY = Study(
    name="random-pairs",
    claim="Diagnosis finds nothing in right pairs drawn at random, and locates what is planted",
    sources=SOURCES,
    run=_run,
    accepts=("most",),
    blocks={"random-pairs": of_record(markdown)},
)
