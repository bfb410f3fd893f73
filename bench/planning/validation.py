"""Plans compared with runs: ``python -m bench.planning.validation --json FILE`` writes a record.

Each size and framework is a fresh run of ``twingrad train`` in its plain configuration, ended once
it has taken its steps; its own metrics say what they took. A run whose tensors are next to nothing
gives the floor: what a process takes before it has a model. One size is then run in several
processes of this machine, which share its cores.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import cast

from bench.harness import frameworks, machine, records
from bench.planning import memory, rates, timing
from bench.planning.record import (
    CeilingsJson,
    ComparisonJson,
    EnvironmentJson,
    ErrorsJson,
    MeasuredJson,
    MemoryJson,
    PlannedJson,
    PlanRecordJson,
    SizeJson,
)
from bench.planning.step_plan import StepPlan
from bench.planning.timing import Rates
from bench.training import launcher, metrics
from bench.training.config import RunSettings, resolve
from bench.training.metrics import StepMetrics
from shared import files
from twingrad import lifeline
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser
from twingrad.files import write_json
from twingrad.whole import temporary_folder

# A middle one that attention decides: small, at GPT-2's whole length.
SIZES = (
    RunSettings(preset="small", length=256, batch_size=4),
    RunSettings(preset="small", length=1024, batch_size=2),
    RunSettings(preset="124m", length=256, batch_size=2),
)
# Over how many processes that hold everything, and that share everything, the first is spread.
LAYOUTS = ((2, 1), (1, 2), (2, 2))
FLOOR = RunSettings(preset="tiny", length=32, batch_size=4)
# Steps of a run; the first compiles and is not counted.
STEPS = 5
WAIT_S = 300.0
END_S = 60.0


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = Parser(prog="python -m bench.planning.validation", description=__doc__)
    parser.add_argument("--json", type=Path)
    path: Path | None = parser.parse_args(argv).json
    record = measure()
    if path:
        write_json(path, dict(record))
    return 0


def measure() -> PlanRecordJson:
    """The record of plans compared with runs on this machine."""
    floors = {name: train(name, FLOOR)["peak_bytes"] for name in frameworks.NAMES}
    sizes = [compare(settings, floors) for settings in SIZES]
    layouts = []
    for data_parallel, sharded in LAYOUTS:
        floor, size = (
            replace(settings, data_parallel=data_parallel, sharded=sharded)
            for settings in (FLOOR, SIZES[0])
        )
        own_floors = {name: train(name, floor)["peak_bytes"] for name in frameworks.NAMES}
        links = {name: bandwidth(name, data_parallel * sharded) for name in frameworks.NAMES}
        layouts.append(compare(size, own_floors, links))
    return {
        "environment": cast(EnvironmentJson, machine.environment(frameworks.both(), "cpu")),
        "asked": {"dtype": "float32", "steps": STEPS},
        "floors": floors,
        "sizes": sizes,
        "layouts": layouts,
    }


def compare(
    settings: RunSettings, floors: dict[str, int], links: dict[str, float] | None = None
) -> SizeJson:
    """Plan and run one size in each framework; with ``links``, in several processes."""
    step = planned(settings)
    before = rates.measure(step, frameworks.NAMES)
    runs = {name: train(name, settings) for name in frameworks.NAMES}
    ceilings = between(before, rates.measure(step, frameworks.NAMES))
    rows = []
    for name in frameworks.NAMES:
        link = links[name] if links else None
        row = compared(step, name, ceilings[name], floors[name], runs[name], link)
        if link is not None:
            row |= {"floor_bytes": floors[name], "link_bytes_per_s": link}
        errors = (f"{key} {row['errors'][key]:+.1%}" for key in ("peak", "beyond_floor", "step"))
        print(settings.given(), name, *errors, flush=True)
        rows.append(row)
    content = {**settings.given(), "ceilings": list(ceilings.values()), "rows": rows}
    return cast(SizeJson, content)


def between(
    before: dict[str, CeilingsJson], after: dict[str, CeilingsJson]
) -> dict[str, CeilingsJson]:
    """Each framework's ceilings, every rate the geometric mean of its two measurements.

    A run lies between them: a machine that is shared slows down and recovers.
    """
    return {name: cast(CeilingsJson, _mean(before[name], after[name])) for name in before}


def _mean(left: object, right: object) -> object:
    if isinstance(left, dict) and isinstance(right, dict):
        return {key: _mean(value, right[key]) for key, value in left.items()}
    if isinstance(left, list) and isinstance(right, list):
        return [_mean(*pair) for pair in zip(left, right, strict=True)]
    if isinstance(left, float) and isinstance(right, float):
        return math.sqrt(left * right)
    return left


def planned(settings: RunSettings) -> StepPlan:
    """The plan of a plain run with these settings."""
    run = resolve(replace(settings, data_parallel=None, sharded=None))
    return StepPlan.of(run, settings.data_parallel or 1, settings.sharded or 1)


def shared_rates(ceilings: CeilingsJson, processes: int) -> Rates:
    """The rates that each of ``processes`` reaches, which have all of the machine together."""
    whole = timing.rates(ceilings)
    return Rates(
        products={name: rate / processes for name, rate in whole.products.items()},
        copy=whole.copy / processes,
        parts={name: rate / processes for name, rate in whole.parts.items()},
    )


def compared(
    step: StepPlan,
    name: str,
    ceilings: CeilingsJson,
    floor: int,
    measured: MeasuredJson,
    link: float | None = None,
) -> ComparisonJson:
    """A plan, its run, and how far the plan is from it, relatively.

    ``link`` is in bytes/s of a process; of several, each has its share of the rates.
    """
    bytes_planned = memory.memory(step, name)
    seconds = timing.seconds(step, name, shared_rates(ceilings, step.devices), link)
    plan: PlannedJson = {
        "memory": cast(MemoryJson, asdict(bytes_planned)),
        "peak_bytes": floor + bytes_planned.tensors,
        "seconds": seconds,
        "step_s": sum(seconds.values()),
    }
    errors = apart(plan, measured, floor)
    return {"framework": name, "planned": plan, "measured": measured, "errors": errors}


def apart(planned: PlannedJson, measured: MeasuredJson, floor: int) -> ErrorsJson:
    """Relative errors of a plan, that of the peak also without the ``floor``."""
    peaks = (planned["peak_bytes"], measured["peak_bytes"])
    return {
        "peak": peaks[0] / peaks[1] - 1,
        "beyond_floor": (peaks[0] - floor) / (peaks[1] - floor) - 1,
        "step": planned["step_s"] / measured["step_s"] - 1,
    }


def bandwidth(name: str, processes: int) -> float:
    """Bytes/s that each of ``processes`` on this machine sends while all sum an array.

    Raises ``RuntimeError`` with the last line that one of them printed, if one fails.
    """
    address = f"127.0.0.1:{launcher.free_port()}"
    environment = {**launcher.share(processes), **os.environ}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.planning.bandwidth", name, str(rank), str(processes),
                 address],
                cwd=records.ROOT, stdout=out, stderr=errors, env=environment,
            )
            for rank in range(processes)
        ]  # fmt: skip
        _wait(children)
        if any(child.returncode for child in children):
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no output"])[-1]
            raise RuntimeError(f"{processes} processes of {name} did not sum an array: {last}")
        out.seek(0)
        [line] = (line for line in out.read().splitlines() if line.startswith("{"))
        return float(files.parse_json(line.encode())["bytes_per_s"])


def _wait(children: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended, one has failed, or the time is over; end those that are left."""
    deadline = time.monotonic() + WAIT_S
    try:
        while any(child.poll() is None for child in children):
            if any(child.poll() for child in children) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for child in children:
            child.kill()
            child.wait()


def train(name: str, settings: RunSettings) -> MeasuredJson:
    """Peak memory of a process and seconds a step of a run of its own, ended after ``STEPS``.

    Raises ``RuntimeError`` with the last line that it printed where it ends before.
    """
    options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.given().items()]
    processes = (settings.data_parallel or 1) * (settings.sharded or 1)
    options += [f"--processes={processes}"] if processes > 1 else []
    with temporary_folder("twingrad-plan") as folder:
        out, output = folder / "run", folder / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", "train", f"--framework={name}", f"--out={out}",
                 f"--steps={1000 * STEPS}", *options],
                cwd=records.ROOT, stdout=file, stderr=file,
                env={
                    **os.environ,
                    "JAX_ENABLE_COMPILATION_CACHE": "false",
                    lifeline.VARIABLE: "yes",
                },
            )  # fmt: skip
        try:
            rows = _first_steps(process, out / name / metrics.FILE)
        finally:
            # Several are ended by the one that started them, and write a checkpoint before.
            process.terminate() if processes > 1 else process.kill()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if len(rows) < STEPS:
            last = output.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise RuntimeError(f"{name} {settings.given()} took no {STEPS} steps: {last[-1]}")
    config = resolve(settings)
    tokens = config.train.batch_size * config.length
    taken = [tokens / row.tokens_per_s for row in rows[1:STEPS]]
    return {
        "peak_bytes": rows[STEPS - 1].peak_bytes or 0,
        "steps_s": taken,
        "step_s": median(taken),
    }


def _first_steps(process: subprocess.Popen[bytes], path: Path) -> list[StepMetrics]:
    """The metrics of ``STEPS`` steps, or of fewer if ``process`` ends or takes too long."""
    deadline = time.monotonic() + WAIT_S
    rows = metrics.read(path, STEPS)
    while len(rows) < STEPS and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        rows = metrics.read(path, STEPS)
    return rows


if __name__ == "__main__":
    sys.exit(exit_status(main))
