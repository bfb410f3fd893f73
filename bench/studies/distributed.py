"""Runs of several processes held against the run of one: every gradient, every loss, every weight.

``python -m bench.distributed --json FILE`` starts real processes on this machine for every layout
in both frameworks, and writes the record that the documentation shows. 1 where a bound is broken.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import frameworks, machine, records, terminal
from bench.harness.frameworks import Framework
from bench.harness.records import load
from bench.studies import distributed_worker
from bench.studies.distributed_worker import Arrays
from bench.training import launcher
from shared.safetensors_io import read_safetensors
from twingrad import numerics
from twingrad.numerics import FLOAT64_RELATIVE, FLOAT64_TRAJECTORY_RELATIVE


def layouts(argument: str) -> str:
    """Runs of several processes against the run of one, in either framework."""
    found = load(argument)
    kinds = list(found["limits"])
    lines = [
        f"| layout | | loss | gradients | {found['steps']} steps | parameters and moments |",
        "|---|---|---|---|---|---|",
    ]
    own = [row for row in found["rows"] if row["framework"] == row["reference"]]
    for row in sorted(own, key=lambda row: (len(row["layout"]), row["layout"])):
        layout = row["layout"].replace("+", ", then ")
        cells = " | ".join(f"{row[kind]:.1e}" for kind in kinds)
        lines.append(f"| {layout} | {terminal.NAMES[row['framework']]} | {cells} |")
    across = [row for row in found["rows"] if row["framework"] != row["reference"]]
    worst = " | ".join(f"{max(row[kind] for row in across):.1e}" for kind in kinds)
    limits = " | ".join(f"{found['limits'][kind]:.0e}" for kind in kinds)
    lines += [f"| any | against the other framework | {worst} |", f"| | limit | {limits} |"]
    return "\n".join(lines)


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
SECONDS = 600  # what processes get to be done


def main(argv: list[str] | None = None) -> int:
    """Run every layout, judge, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.distributed", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    chosen, began = frameworks.both(), time.perf_counter()
    made = {side.name: measured(side) for side in chosen}
    rows = judged(made)
    for row in rows:
        errors = ", ".join(f"{kind} {row[kind]:.1e}" for kind in LIMITS)
        print(f"{row['framework']} {row['layout']} against {row['reference']}: {errors}")
    if asked.json:
        content = {
            "environment": machine.environment(chosen, "cpu"),
            "seconds": time.perf_counter() - began,
            "steps": distributed_worker.STEPS,
            "length": distributed_worker.LENGTH,
            "model": asdict(distributed_worker.MODEL),
            "train": asdict(distributed_worker.settings(ALONE)[0]),
            "limits": LIMITS,
            "rows": rows,
        }
        records.write_json(asked.json, content)
    return 0 if all(row["ok"] for row in rows) else 1


def measured(side: Framework) -> dict[str, Arrays]:
    """By layout, what every process of it computes; they must agree to the last bit."""
    made: dict[str, Arrays] = {}
    for size, names in WORLDS.items():
        with tempfile.TemporaryDirectory() as folder:
            made |= run(side.name, size, names, Path(folder))
    return made


def run(
    framework: str,
    size: int,
    names: Sequence[str],
    folder: Path,
    process: Sequence[str] = PROCESS,
) -> dict[str, Arrays]:
    """Start ``size`` processes that share a world; by name, what ``process`` wrote of each.

    Raises ``RuntimeError`` with what the first of them to fail said.
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
        waits = {pool.submit(one.communicate, timeout=SECONDS): one for one in started}
        try:
            for wait in as_completed(waits):
                said = wait.result()[1]
                if waits[wait].returncode:
                    raise RuntimeError(f"a process of {framework} failed: {said}")
        finally:
            for one in started:  # those that would wait for the one that failed
                one.kill()
    return {name: _agreed(folder, name, size) for name in names}


def _agreed(folder: Path, name: str, size: int) -> Arrays:
    """What all processes wrote of one layout, which must be the same on each."""
    paths = (folder / f"{name}-{rank}.safetensors" for rank in range(size))
    first, *others = (read_safetensors(path) for path in paths)
    for rank, other in enumerate(others, start=1):
        for key in first:
            assert np.array_equal(first[key], other[key]), f"{name}: {key} differs on rank {rank}"
    return first


def judged(made: Mapping[str, Mapping[str, Arrays]]) -> list[dict[str, Any]]:
    """Every layout of every framework against every framework's run of one process."""
    return [
        {"framework": framework, "layout": layout, "reference": reference} | judge(arrays, alone)
        for framework, by_layout in made.items()
        for layout, arrays in by_layout.items()
        for reference, alone in ((name, made[name][ALONE]) for name in made)
        if (framework, layout) != (reference, ALONE)
    ]


def judge(ours: Arrays, theirs: Arrays) -> dict[str, Any]:
    """The worst relative difference of each kind, and whether it keeps its limit."""
    assert ours.keys() == theirs.keys()
    states = ("params", "first_moment", "second_moment")
    worst = {
        "loss": _apart(ours, theirs, "loss"),
        "gradient": _apart(ours, theirs, "gradient "),
        "curve": max(
            float(np.max(np.abs(ours[key] / theirs[key] - 1))) for key in ("figures", "validation")
        ),
        "state": max(_apart(ours, theirs, f"{part} ") for part in states),
    }
    return worst | {"ok": all(worst[kind] <= limit for kind, limit in LIMITS.items())}


def _apart(ours: Arrays, theirs: Arrays, prefix: str) -> float:
    """The worst difference of tensors named so, relative in L2 and to the largest number.

    A gradient that is zero but for rounding is held against the size of all.
    """
    names = [name for name in theirs if name.startswith(prefix)]
    scales = numerics.scales({name: theirs[name] for name in names})
    apart = {name: numerics.distance(ours[name], theirs[name]) for name in names}
    return max(max(apart[n].l2 / scales[n].l2, apart[n].peak / scales[n].peak) for n in names)


if __name__ == "__main__":
    sys.exit(main())
