"""Progress of a measurement: what the records in its folder have, and what is still missing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.options import GpuOptions
from bench.gpu.steps import Step
from bench.harness import machine
from bench.harness.records import Record
from bench.speed import record
from bench.speed.options import BenchOptions
from bench.speed.results import Configuration, Outcome, Result, SpeedRecord
from bench.speed.scheduler import LEAST
from bench.speed.setup import BenchSetup
from bench.speed.workloads import FOLLOWING, PROMPT, Stage
from shared import files
from twingrad import environment as facts


@dataclass(frozen=True)
class Wanted:
    """One row that a step is to have: a contestant on a workload."""

    contestant: str
    configuration: Configuration


@dataclass(frozen=True)
class Missing:
    """The contestants and workloads that a step still lacks, and whether its ceilings do."""

    contestants: tuple[str, ...]
    workloads: tuple[str, ...]
    ceilings: bool = False

    def __bool__(self) -> bool:
        return bool(self.contestants or self.ceilings)


def bench_options(
    step: Step, options: GpuOptions, missing: Missing | None = None, first: str = ""
) -> BenchOptions:
    """The options of ``bench`` for a step of timings, or for what is still missing of it.

    The contestant ``first`` then takes part again, so that the others have a ratio to it.
    """
    contestants, workloads = step.contestants, step.workloads
    if missing:
        contestants = tuple(dict.fromkeys((first, *missing.contestants)))
        workloads = missing.workloads or workloads[:1]
    peers = (given for given in options.peer if _forms(given) & set(contestants))
    return BenchOptions(
        workload=workloads,
        preset=step.preset,
        contestants=",".join(contestants),
        peer=tuple(peers),
        batch_size=step.batch_size,
        device=options.device,
        dtype=step.dtype,
        samples=options.samples,
        without_ceilings=not (step.ceilings and (missing is None or missing.ceilings)),
    )


def _forms(peer: str) -> set[str]:
    """The names of the contestants that a peer, NAME=PATH, stands for."""
    name = peer.partition("=")[0]
    return {name, f"{name}-tuned"}


def wanted(setup: BenchSetup) -> list[Wanted]:
    """The rows that a complete record of this setup has."""
    return [
        Wanted(contestant.name, _configuration(setup, stage, workload, rows))
        for stage in setup.stages
        for workload in stage.workloads
        for rows in (stage.rows if workload == "decode" else (0,))
        for contestant in stage.contestants
        if not rows or contestant.decodes
    ]


def _configuration(setup: BenchSetup, stage: Stage, workload: str, rows: int) -> Configuration:
    return Configuration(
        workload=workload,
        variant=f"batch {rows}" if rows else stage.variant,
        preset=stage.preset,
        batch_size=rows or stage.batch_size,
        length=PROMPT + FOLLOWING if rows else stage.length,
        n_layers=stage.config.n_layers,
        dtype=setup.dtype_of(stage),
    )


def missing(step: Step, setup: BenchSetup, options: GpuOptions) -> Missing:
    """What the records in the folder still lack of a step of timings."""
    found = [read_timings(path) for path in paths(step, options.out)]
    done = {
        Wanted(row.contestant, row.configuration)
        for one in found
        for row in one.results
        if _is_complete(row, options.samples)
    }
    lacking = [row for row in wanted(setup) if row not in done]
    return Missing(
        tuple(dict.fromkeys(row.contestant for row in lacking)),
        tuple(dict.fromkeys(row.configuration.workload for row in lacking)),
        step.ceilings and not any(one.ceilings for one in found),
    )


def _is_complete(row: Result, samples: int) -> bool:
    """Whether a row has samples enough, or says why there can be none."""
    if row.status.outcome is Outcome.TIMED:
        return len(row.samples) >= min(LEAST, samples)
    return row.status.outcome is not Outcome.NOT_REACHED


def is_compared(step: Step, options: GpuOptions) -> bool:
    """Whether a comparison was made to its end."""
    return any("interrupted" not in read_comparison(path) for path in paths(step, options.out))


def failures(step: Step, options: GpuOptions) -> Iterator[str]:
    """What went wrong in a step that was measured, in a few words each."""
    for path in paths(step, options.out):
        if step.contestants:
            for row in read_timings(path).results:
                if row.status.outcome in (Outcome.FAILED, Outcome.FAILED_PARITY):
                    yield f"{row.title}: {row.status.text}"
        else:
            content = read_comparison(path)
            if "interrupted" not in content and content.get("ok") is not True:
                yield f"{path.name}: a gate failed"


def paths(step: Step, folder: Path) -> list[Path]:
    """The records of a step, one of each call that measured some of it, oldest first."""
    name = re.compile(rf"{re.escape(step.name)}-(\d+)\.json")
    found = [
        (int(match[1]), path)
        for path in folder.glob("*.json")
        if (match := name.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def next_path(step: Step, folder: Path) -> Path:
    """The file of the next record of a step."""
    numbers = [int(path.stem.rpartition("-")[2]) for path in paths(step, folder)]
    return folder / f"{step.name}-{max(numbers, default=0) + 1}.json"


def read_timings(path: Path) -> SpeedRecord:
    """A record of timings; ``ValueError`` where it is none, or does not hold."""
    try:
        record.check(path)
        return SpeedRecord.from_json(files.read_json(path))
    except record.Refused as refused:
        raise ValueError(f"{refused}: move it away, or give another --out") from None


def read_comparison(path: Path) -> dict[str, files.Json]:
    """A record of a comparison; ``ValueError`` where it is none."""
    content = files.read_object(path, "move it away, or give another --out")
    if not isinstance(content.get("programs"), list):
        raise ValueError(f"{path} is no comparison: move it away, or give another --out")
    return content


def require_same_machine(steps: list[Step], options: GpuOptions, device: str) -> None:
    """Raise ``ValueError`` where the folder has records of another machine or commit."""
    here = {"device": device, "GPU": machine.gpu_name(), "commit": facts.commit().get("id", "")}
    for step in steps:
        for path in paths(step, options.out):
            environment = (
                read_timings(path).environment
                if step.contestants
                else Record.of(read_comparison(path), path.name).environment
            )
            there = {
                "device": environment.get("device", ""),
                "GPU": _part(environment, "clocks", "name"),
                "commit": _part(environment, "commit", "id") or "",
            }
            for name, value in there.items():
                if value != here[name] and value is not None:
                    raise ValueError(
                        f"{path} was measured with {name} {value or 'unknown'}, and this is "
                        f"{here[name] or 'unknown'}: give another --out"
                    )


def _part(environment: object, part: str, name: str) -> str | None:
    """A text of a part of a record's environment, empty where it is not there; None without it."""
    found = environment.get(part) if isinstance(environment, dict) else None
    return str(found.get(name, "")) if isinstance(found, dict) else None
