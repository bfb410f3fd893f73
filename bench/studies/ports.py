"""Accuracy of diagnosis on ports that were written after public reports of bugs.

Each folder of ``tests/ports`` holds a PyTorch model with a right port and with wrong ones, and
``expected.toml`` says what is right of each file: the exit status, the stage and the place of the
first finding, regular expressions that its cause must and must not hold, and the notes that it
must have. ``python -m bench.studies ports`` diagnoses them all, ``python -m bench.studies.ports
--only NAME`` some of them. One case needs Equinox.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from bench.harness import frameworks, machine, records
from bench.harness.records import Record
from bench.studies.study import DIAGNOSING, Study, of_record
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser, add_options, option, read_options
from twingrad.diagnosis.finding import FindingObject, NoteObject

PORTS = records.ROOT / "tests" / "ports"
# What was answered for the latest cases when they were diagnosed for the first time, before any
# cause was written for them.
FIRST_ANSWERS = "first-answers.json"
# A diagnosis takes seconds; one that hangs is a wrong answer and not the end of the study.
LIMIT_S = 300


@dataclass(frozen=True, kw_only=True)
class PortsOptions:
    """Options of the study."""

    only: tuple[str, ...] = option((), metavar="NAME", help="the ports of these folders alone")
    json: Path | None = option(None, metavar="FILE", help="write the record here")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The right diagnosis of one file; patterns are regular expressions.

    ``where`` is the whole name of the place, ``cause`` and ``message`` are searched for.
    """

    status: int
    stage: str | None = None
    where: str | None = None
    cause: tuple[str, ...] = ()
    not_cause: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # causes that a later finding must hold
    notes: tuple[str, ...] = ()
    message: tuple[str, ...] = ()


@dataclass(frozen=True)
class Port:
    """One file: a pair of models, right or wrong."""

    case: str
    file: str
    expected: Expected

    @property
    def path(self) -> Path:
        """The file."""
        return PORTS / self.case / f"{self.file}.py"

    @property
    def name(self) -> str:
        """Case and file, as the record names it."""
        return f"{self.case}/{self.file}"


class Answer(TypedDict):
    """What ``diagnose`` answered for one file."""

    status: int
    findings: list[FindingObject]
    notes: list[NoteObject]
    message: str


class Row(Answer):
    """An answer, and what of it is right."""

    name: str
    right: bool
    named: bool | None


class Rate(TypedDict):
    """How often diagnosis was right, of how many files of a kind."""

    kind: str
    right: int
    of: int


def read() -> list[Port]:
    """All ports; ``ValueError`` where a file has no expectation, or an expectation no file."""
    ports = []
    for path in sorted(PORTS.glob("*/expected.toml")):
        content = tomllib.loads(path.read_text())
        files = {name: fields for name, fields in content.items() if isinstance(fields, dict)}
        present = {file.stem for file in path.parent.glob("pair_*.py")}
        if present != set(files):
            raise ValueError(f"{path} must name the files {sorted(present)}, not {sorted(files)}")
        ports += [Port(path.parent.name, name, _expected(files[name])) for name in sorted(files)]
    return ports


def _expected(fields: dict[str, object]) -> Expected:
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Expected(**values)  # type: ignore[arg-type]


def judge(port: Port, answer: Answer) -> Row:
    """The answer with what of it is right.

    A right port is judged by its status and notes; a wrong one is right where the largest finding
    is at the expected stage and place, and named where its cause holds the expected words and none
    of the forbidden ones.
    """
    expected, findings = port.expected, answer["findings"]
    notes = [f"{note['where']}: {note['note']}" for note in answer["notes"]]
    right = (
        answer["status"] == expected.status
        and all(any(re.search(word, note) for note in notes) for word in expected.notes)
        and all(re.search(word, answer["message"]) for word in expected.message)
    )
    named = None
    if expected.where is not None:
        right = right and bool(findings) and _is_at(findings[0], expected)
        named = right and _is_named(findings, expected)
    return {**answer, "name": port.name, "right": right, "named": named}


def _is_at(finding: FindingObject, expected: Expected) -> bool:
    """Whether the finding is at the expected place, by its name in either framework."""
    where = finding["where"]
    torch, _, jax = where.removesuffix(" in JAX)").partition(" (")
    at = any(re.fullmatch(expected.where or "", name) for name in (where, torch, jax))
    return finding["stage"] == expected.stage and at


def _is_named(findings: Sequence[FindingObject], expected: Expected) -> bool:
    causes = [finding["cause"] or "" for finding in findings]
    return (
        all(re.search(word, causes[0]) for word in expected.cause)
        and all(any(re.search(word, cause) for cause in causes) for word in expected.also)
        and not any(re.search(word, cause) for word in expected.not_cause for cause in causes)
    )


def diagnose(port: Port) -> Answer:
    """Run ``twingrad diagnose`` on the file in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.json")
        words = ["-m", "bench", "diagnose", str(port.path), "--all", "--json", str(path)]
        try:
            ended = subprocess.run(
                [sys.executable, *words],
                cwd=records.ROOT,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            message = f"no answer in {LIMIT_S} s"
            return {"status": -1, "findings": [], "notes": [], "message": message}
        report = json.loads(path.read_text()) if path.exists() else {}
    said = ended.stderr.strip().splitlines()
    # What stands before the sentence is progress.
    start = max((n for n, line in enumerate(said) if line.startswith("twingrad:")), default=-3)
    return {
        "status": ended.returncode,
        "findings": report.get("findings", []),
        "notes": report.get("notes", []),
        "message": "" if ended.returncode < 2 else _printed(" ".join(said[start:])),
    }


def _printed(message: str) -> str:
    """The message with paths from the checkout on, so that records are the same everywhere."""
    return message.replace(f"{records.ROOT}/", "")


def measure(options: PortsOptions) -> Record:
    """Diagnose every port, or those of ``--only``."""
    ports = read()
    unknown = set(options.only) - {port.case for port in ports}
    if unknown:
        raise ValueError(f"there is no port {', '.join(sorted(unknown))} in {PORTS}")
    chosen = [port for port in ports if not options.only or port.case in options.only]
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = list(pool.map(_judged, chosen))
    return Record(machine.environment(frameworks.both(), "cpu"), {"ports": rows})


def _judged(port: Port) -> Row:
    row = judge(port, diagnose(port))
    print(f"{row['name']}: {'right' if row['right'] else 'wrong'}, {_said(row)}", flush=True)
    return row


def rates(rows: Sequence[Row]) -> list[Rate]:
    """How often diagnosis was right about right ports and wrong ones, and named the cause."""
    right = [row for row in rows if row["name"].split("/")[1].startswith("pair_ok")]
    wrong = [row for row in rows if row not in right]
    named = [row for row in wrong if row["named"] is not None]
    counts: list[tuple[str, Callable[[Row], object], list[Row]]] = [
        ("right ports: status 0, with the notes that they need", lambda row: row["right"], right),
        ("wrong ports: located, or refused where that is right", lambda row: row["right"], wrong),
        ("wrong ports: the cause named", lambda row: row["named"], named),
    ]
    return [
        {"kind": kind, "right": sum(map(bool, map(holds, those))), "of": len(those)}
        for kind, holds, those in counts
    ]


def lines(record: Record) -> Iterator[str]:
    """The rates, a line each."""
    for rate in rates(record["ports"]):
        yield f"{rate['kind']}: {rate['right']} of {rate['of']}"


def markdown(record: Record) -> str:
    """A table of the rates."""
    return _table(record["ports"])


def _table(rows: Sequence[Row]) -> str:
    lines = ["| | right | of |", "|---|---|---|"]
    lines += [f"| {rate['kind']} | {rate['right']} | {rate['of']} |" for rate in rates(rows)]
    return "\n".join(lines)


def first_answers(name: str) -> str:
    """The table of the rates at which the latest cases were right at first; ``name`` is not used.

    A case whose files were wrong themselves, and were corrected, counts as it was.
    """
    rows: list[Row] = json.loads((PORTS / FIRST_ANSWERS).read_text())["ports"]
    return _table(rows)


def missed(record: Record) -> str:
    """A table of the files whose diagnosis is not right or not named, and what it said."""
    rows = ["| port | what is true | what was said |", "|---|---|---|"]
    for row in record["ports"]:
        if row["right"] and row["named"] is not False:
            continue
        cells = (f"`{row['name']}`", _claim(row["name"].split("/")[0]), _said(row))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) if len(rows) > 2 else "All were right."


def _claim(case: str) -> str:
    return str(tomllib.loads((PORTS / case / "expected.toml").read_text())["claim"])


def _said(row: Row) -> str:
    if row["message"]:
        return f"status {row['status']}: {row['message'][:200]}"
    if not row["findings"]:
        return f"status {row['status']}"
    finding = row["findings"][0]
    return f"{finding['stage']} of `{finding['where']}`: {finding['cause'] or 'no known cause'}"


STUDY = Study(
    name="ports",
    claim="Diagnosis passes right ports of other people's models and finds what is wrong in others",
    sources=("bench/studies/ports.py", "tests/ports/*/*", *DIAGNOSING),
    measure=lambda options: measure(PortsOptions()),
    lines=lines,
    blocks={
        "ports": of_record(markdown),
        "ports-missed": of_record(missed),
        "ports-first": first_answers,
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose the ports, print the rates and write the record; 2 where the call is wrong."""
    parser = Parser(prog="python -m bench.studies.ports", description=__doc__)
    add_options(parser, PortsOptions)
    try:
        options = read_options(PortsOptions, parser.parse_args(argv))
        record = measure(options)
        for line in lines(record):
            print(line)
        if options.json is not None:
            records.save(options.json, record)
    except ValueError as error:
        print(f"ports: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
