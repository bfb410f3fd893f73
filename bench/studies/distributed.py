"""Runs of several processes against the run of one: every gradient, every loss, every weight.

Real processes on this machine run every arrangement in both frameworks.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.harness import frameworks, machine, records, terminal
from bench.harness.frameworks import Framework
from bench.harness.records import Json, Record
from bench.studies import distributed_worker
from bench.studies.distributed_worker import Arrays
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from bench.training import launcher
from shared.safetensors_io import read_safetensors
from twingrad import numerics
from twingrad.numerics import FLOAT64_RELATIVE, FLOAT64_TRAJECTORY_RELATIVE

ALONE = "1x1"
# By their number of processes: those that share one world.
WORLDS = {1: (ALONE,), 2: ("2x1", "1x2", "2x1+1x2"), 4: ("4x1", "1x4", "2x2", "1x4+2x2")}
LIMITS = {
    "loss": FLOAT64_RELATIVE,
    "gradient": FLOAT64_RELATIVE,
    "curve": FLOAT64_TRAJECTORY_RELATIVE,
    "state": FLOAT64_TRAJECTORY_RELATIVE,
}
PROCESS = ("-m", "bench.studies.distributed_worker")
SECONDS = 600  # the time that processes have


def measure(options: StudyOptions) -> Record:
    """Run and judge every layout."""
    pair, began = frameworks.both(), time.perf_counter()
    results = {side.name: run_all(side) for side in pair}
    body = {
        "seconds": time.perf_counter() - began,
        "steps": distributed_worker.STEPS,
        "length": distributed_worker.LENGTH,
        "model": asdict(distributed_worker.MODEL),
        "train": asdict(distributed_worker.settings(ALONE)[0]),
        "limits": LIMITS,
        "rows": judge_all(results),
    }
    return Record(machine.environment(pair, "cpu"), body)


def lines(record: Record) -> Iterator[str]:
    """The errors of every layout against each run of one process."""
    for row in record["rows"]:
        errors = ", ".join(f"{kind} {row[kind]:.1e}" for kind in LIMITS)
        yield f"{row['framework']} {row['layout']} against {row['reference']}: {errors}"


def holds(record: Record) -> bool:
    """Whether every layout keeps every limit."""
    return all(row["ok"] for row in record["rows"])


def markdown(record: Record) -> str:
    """A table of every layout against the run of one process, in either framework."""
    kinds = list(record["limits"])
    table = [
        f"| layout | | loss | gradients | {record['steps']} steps | parameters and moments |",
        "|---|---|---|---|---|---|",
    ]
    within = [row for row in record["rows"] if row["framework"] == row["reference"]]
    for row in sorted(within, key=lambda row: (len(row["layout"]), row["layout"])):
        layout = row["layout"].replace("+", ", then ")
        cells = " | ".join(f"{row[kind]:.1e}" for kind in kinds)
        table.append(f"| {layout} | {terminal.NAMES[row['framework']]} | {cells} |")
    across = [row for row in record["rows"] if row["framework"] != row["reference"]]
    worst = " | ".join(f"{max(row[kind] for row in across):.1e}" for kind in kinds)
    limits = " | ".join(f"{record['limits'][kind]:.0e}" for kind in kinds)
    table += [f"| any | against the other framework | {worst} |", f"| | limit | {limits} |"]
    return "\n".join(table)


def run_all(side: Framework) -> dict[str, Arrays]:
    """Results by layout, on which all processes of it must agree to the last bit."""
    results: dict[str, Arrays] = {}
    for size, names in WORLDS.items():
        with tempfile.TemporaryDirectory() as folder:
            results |= run(side.name, size, names, Path(folder))
    return results


def run(
    framework: str,
    size: int,
    names: Sequence[str],
    folder: Path,
    process: Sequence[str] = PROCESS,
) -> dict[str, Arrays]:
    """Start ``size`` processes that share a world; their results by layout.

    Raises ``RuntimeError`` with the error output of the first that fails.
    """
    address = f"127.0.0.1:{launcher.free_port()}"
    # A core's worth of threads each: more would wait for one another.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(records.ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, *process, framework, str(rank), str(size), address, folder, *names],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    with ThreadPoolExecutor(size) as pool:
        waits = {pool.submit(child.communicate, timeout=SECONDS): child for child in started}
        try:
            for wait in as_completed(waits):
                errors = wait.result()[1]
                if waits[wait].returncode:
                    raise RuntimeError(f"a process of {framework} failed: {errors}")
        finally:
            for child in started:  # the others would wait for the one that failed
                child.kill()
    return {name: _agreed(folder, name, size) for name in names}


def _agreed(folder: Path, name: str, size: int) -> Arrays:
    """The results of one layout; ``ValueError`` unless all processes wrote the same."""
    paths = (folder / f"{name}-{rank}.safetensors" for rank in range(size))
    first, *others = (read_safetensors(path) for path in paths)
    for rank, other in enumerate(others, start=1):
        for key in first:
            if not np.array_equal(first[key], other[key]):
                raise ValueError(f"{name}: {key} differs on rank {rank}")
    return first


def judge_all(results: Mapping[str, Mapping[str, Arrays]]) -> list[dict[str, Json]]:
    """Judge every layout of every framework against every framework's run of one process."""
    return [
        {"framework": framework, "layout": layout, "reference": reference} | judge(arrays, alone)
        for framework, by_layout in results.items()
        for layout, arrays in by_layout.items()
        for reference, alone in ((name, results[name][ALONE]) for name in results)
        if (framework, layout) != (reference, ALONE)
    ]


def judge(result: Arrays, alone: Arrays) -> dict[str, Json]:
    """The worst relative difference of each kind, and whether it keeps its limit."""
    if result.keys() != alone.keys():
        raise ValueError(f"tensors differ: {sorted(result.keys() ^ alone.keys())}")
    states = ("params", "first_moment", "second_moment")
    worst = {
        "loss": _apart(result, alone, "loss"),
        "gradient": _apart(result, alone, "gradient "),
        "curve": max(
            float(np.max(np.abs(result[key] / alone[key] - 1))) for key in ("figures", "validation")
        ),
        "state": max(_apart(result, alone, f"{part} ") for part in states),
    }
    return worst | {"ok": all(worst[kind] <= limit for kind, limit in LIMITS.items())}


def _apart(result: Arrays, alone: Arrays, prefix: str) -> float:
    """The worst difference of tensors with this prefix, relative in L2 and to the largest number.

    A gradient that is zero but for rounding is judged by the size of all.
    """
    names = [name for name in alone if name.startswith(prefix)]
    scales = numerics.scales({name: alone[name] for name in names})
    apart = {name: numerics.distance(result[name], alone[name]) for name in names}
    return max(max(apart[n].l2 / scales[n].l2, apart[n].peak / scales[n].peak) for n in names)


STUDY = Study(
    name="distributed",
    claim="Several processes compute what one does, in every arrangement",
    sources=(
        *twins("gpt2", "loss", "dropout", "optim", "train", "distributed", "params", "runtime"),
        *shared("config", "data", "params", "schedule", "threefry", "train_state", "world"),
    ),
    measure=measure,
    lines=lines,
    holds=holds,
    blocks={"layouts": of_record(markdown)},
)
