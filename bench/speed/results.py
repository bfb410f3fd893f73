"""Rows of a benchmark record: results, ratios, and the datasheet they are compared with."""

from typing import Any

from bench.harness.machine import gpu_clocks
from bench.speed import record as speed_record
from bench.speed import workloads as kinds
from bench.speed.scheduler import Entry


def result_status(entry: Entry) -> str:
    """What became of a contestant: timed, failed, or skipped, in the words of the record."""
    if entry.failed == "parity":
        return "failed parity"
    if entry.failed:
        return entry.failed
    return "timed" if entry.samples else "not reached"


def ratios(rows: list[dict[str, Any]], method: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pair of rows that raced one another."""
    timed = [row for row in rows if row["status"] == "timed"]
    return [
        speed_record.ratio(ours, theirs, method)
        for i, ours in enumerate(timed)
        for theirs in timed[i + 1 :]
    ]


def datasheet(device: str) -> float | None:
    """Dense peak of the GPU in FLOP/s by its datasheet; ``None`` if unknown."""
    if device != "cuda":
        return None
    name = gpu_clocks(device).get("name", "")
    return next((peak for known, peak in kinds.DATASHEET.items() if known in name), None)
