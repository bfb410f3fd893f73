"""Planted bugs on the report page: how gates caught them, and how diagnosis named them."""

from dataclasses import dataclass
from typing import TypeAlias

from bench.harness import terminal
from bench.harness.records import Json, Record
from bench.studies import diagnosis_record

# A row of a record, as its command writes it.
Row: TypeAlias = dict[str, Json]


@dataclass(frozen=True)
class Planted:
    """Planted bugs: the gate that caught each on either side, and counts by gate."""

    caught: int
    total: int
    clean_ok: bool
    gates: dict[str, dict[str, int]]
    bugs: list[tuple[str, dict[str, Row]]]


def planted(record: Record) -> Planted:
    """The record of planted bugs, one entry a bug."""
    by_name: dict[str, dict[str, Row]] = {}
    gates: dict[str, dict[str, int]] = {}
    for row in record["mutants"]:
        by_name.setdefault(row["name"], {})[row["side"]] = row
        if row["caught"]:
            count = gates.setdefault(row["gate"], dict.fromkeys(terminal.NAMES, 0))
            count[row["side"]] += 1
    bugs = [(next(iter(sides.values()))["about"], sides) for sides in by_name.values()]
    return Planted(
        caught=sum(row["caught"] for row in record["mutants"]),
        total=len(record["mutants"]),
        clean_ok=record["clean_ok"],
        gates=gates,
        bugs=bugs,
    )


@dataclass(frozen=True)
class Diagnosed:
    """Diagnoses of planted bugs, and how often they were right."""

    summary: list[tuple[str, int, int]]
    bugs: list[Row]


def diagnosed(record: Record) -> Diagnosed:
    """The record of diagnoses."""
    return Diagnosed(
        summary=diagnosis_record.diagnosed(diagnosis_record.as_report(record)),
        bugs=record["bugs"],
    )
