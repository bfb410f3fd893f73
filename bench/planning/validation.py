"""Plans held against runs: ``python -m bench.plan_check --json FILE`` measures and writes a record.

Each size and framework is a fresh run of ``twingrad train`` in its plain configuration, ended once
it has taken its steps; its own metrics say what they took. A run whose tensors are next to nothing
gives the floor: what a process takes before it has a model. One size is then run in several
processes of this machine, which share its cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import frameworks, machine, records
from bench.planning import command, formulas
from bench.planning.formulas import FRAMEWORKS, Plan, Rates
from bench.training import config, launcher, run_folder

# A middle one that attention decides: small, at GPT-2's whole length.
SIZES = ({"preset": "small", "length": 256, "batch_size": 4},
         {"preset": "small", "length": 1024, "batch_size": 2},
         {"preset": "124m", "length": 256, "batch_size": 2})  # fmt: skip
# Over how many processes that hold everything, and that share everything, the first is spread.
LAYOUTS = ((2, 1), (1, 2), (2, 2))
FLOOR = {"preset": "tiny", "length": 32, "batch_size": 4}
# Steps of a run; the first compiles and is not counted.
STEPS = 5
WAIT_S = 300.0
END_S = 60.0


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.plan_check", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    floors = {name: train(name, FLOOR)["peak_bytes"] for name in FRAMEWORKS}
    sizes = []
    for given in SIZES:
        step = planned(given)
        before = command.measure(step, FRAMEWORKS)
        measured = {name: train(name, given) for name in FRAMEWORKS}
        ceilings = between(before, command.measure(step, FRAMEWORKS))
        rows = [
            compared(step, name, ceilings[name], floors[name], measured[name])
            for name in FRAMEWORKS
        ]
        _tell(str(given), rows)
        sizes.append({**given, "ceilings": list(ceilings.values()), "rows": rows})
    layouts = [spread(SIZES[0], *layout) for layout in LAYOUTS]
    if asked.json:
        content = {
            "environment": machine.environment(frameworks.both(), "cpu"),
            "asked": {"dtype": "float32", "steps": STEPS},
            "floors": floors,
            "sizes": sizes,
            "layouts": layouts,
        }
        records.write_json(asked.json, content)
    return 0


def spread(given: dict[str, Any], data_parallel: int, sharded: int) -> dict[str, Any]:
    """One size in ``data_parallel`` times ``sharded`` processes of this machine."""
    step = planned(given, data_parallel, sharded)
    layout = {"data_parallel": data_parallel, "sharded": sharded}
    before = command.measure(step, FRAMEWORKS)
    floors = {name: train(name, FLOOR | layout)["peak_bytes"] for name in FRAMEWORKS}
    links = {name: linked(name, step.devices) for name in FRAMEWORKS}
    measured = {name: train(name, given | layout) for name in FRAMEWORKS}
    ceilings = between(before, command.measure(step, FRAMEWORKS))
    rows = [
        compared(step, name, ceilings[name], floors[name], measured[name], links[name])
        | {"floor_bytes": floors[name], "link_bytes_per_s": links[name]}
        for name in FRAMEWORKS
    ]
    _tell(str(layout), rows)
    return {**given, **layout, "ceilings": list(ceilings.values()), "rows": rows}


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Each framework's ceilings, every rate the geometric mean of what two measurements found.

    A run lies between them: a machine that is shared slows down and recovers.
    """
    return {name: _mean(before[name]["ceilings"], after[name]["ceilings"]) for name in before}


def _mean(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {key: _mean(value, other[key]) for key, value in one.items()}
    if isinstance(one, list):
        return [_mean(*pair) for pair in zip(one, other, strict=True)]
    return math.sqrt(one * other) if isinstance(one, float) else one


def _tell(title: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        errors = (f"{key} {value:+.1%}" for key, value in row["errors"].items())
        print(title, row["framework"], *errors, flush=True)


def planned(given: dict[str, Any], data_parallel: int = 1, sharded: int = 1) -> Plan:
    """The plan of a plain run with these settings."""
    run = config.resolve(given)
    return Plan(
        model=run.model,
        train=run.train,
        length=run.length,
        data_parallel=data_parallel,
        sharded=sharded,
    )


def rates(ceilings: dict[str, Any], processes: int) -> Rates:
    """What one of ``processes`` reaches, which have all of the machine together."""
    whole = formulas.rates(ceilings)
    return Rates(
        products={name: rate / processes for name, rate in whole.products.items()},
        copy=whole.copy / processes,
        parts={name: rate / processes for name, rate in whole.parts.items()},
    )


def compared(
    step: Plan,
    name: str,
    ceilings: dict[str, Any],
    floor: int,
    measured: dict[str, Any],
    link: float | None = None,
) -> dict[str, Any]:
    """What is planned, what is measured, and how far the plan is from it, relatively.

    ``link`` is what a process sends, bytes/s; of several, each has its share of the rates.
    """
    memory = formulas.memory(step, name)
    seconds = formulas.seconds(step, name, rates(ceilings, step.devices), link)
    planned = {
        "memory": asdict(memory),
        "peak_bytes": floor + memory.tensors,
        "seconds": seconds,
        "step_s": sum(seconds.values()),
    }
    errors = apart(planned, measured, floor)
    return {"framework": name, "planned": planned, "measured": measured, "errors": errors}


def apart(planned: dict[str, Any], measured: dict[str, Any], floor: int) -> dict[str, float]:
    """How far a plan is from what was measured, relatively; ``floor`` is no merit of the plan's."""
    peaks = (planned["peak_bytes"], measured["peak_bytes"])
    return {
        "peak": peaks[0] / peaks[1] - 1,
        "beyond_floor": (peaks[0] - floor) / (peaks[1] - floor) - 1,
        "step": planned["step_s"] / measured["step_s"] - 1,
    }


def linked(name: str, processes: int) -> float:
    """Bytes/s that each of ``processes`` on this machine sends while all sum an array.

    Raises ``RuntimeError`` with what the first that failed said last.
    """
    address = f"127.0.0.1:{launcher.free_port()}"
    environment = {**launcher.share(processes), **os.environ}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.planning.bandwidth", name, str(rank), str(processes),
                 address],
                cwd=records.ROOT, stdout=out, stderr=errors, env=environment,
            )
            for rank in range(processes)
        ]  # fmt: skip
        deadline = time.monotonic() + WAIT_S
        try:
            while any(process.poll() is None for process in started):
                if any(process.poll() for process in started) or time.monotonic() > deadline:
                    break
                time.sleep(0.1)
        finally:
            for process in started:
                process.kill()
                process.wait()
        if any(process.returncode for process in started):
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(f"{processes} processes of {name} did not sum an array: {last}")
        out.seek(0)
        [said] = (line for line in out.read().splitlines() if line.startswith("{"))
        return float(json.loads(said)["bytes_per_s"])


def train(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of a process and seconds a step of a run of its own, ended after ``STEPS``.

    Raises ``RuntimeError`` with what it said last where it ends before.
    """
    options = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    processes = given.get("data_parallel", 1) * given.get("sharded", 1)
    options += [f"--processes={processes}"] if processes > 1 else []
    with tempfile.TemporaryDirectory(prefix="twingrad-plan-") as folder:
        out, said = Path(folder, "run"), Path(folder, "said")
        metrics = out / name / run_folder.METRICS
        with said.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", "train", f"--framework={name}", f"--out={out}",
                 f"--steps={1000 * STEPS}", *options],
                cwd=records.ROOT, stdout=file, stderr=file,
                env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
            )  # fmt: skip
        until = time.monotonic() + WAIT_S
        try:
            rows: list[dict[str, Any]] = []
            while len(rows) < STEPS:
                if process.poll() is not None or time.monotonic() > until:
                    last = said.read_text(errors="replace").strip().splitlines() or ["nothing"]
                    raise RuntimeError(f"{name} {given} took no {STEPS} steps: {last[-1]}")
                time.sleep(0.2)
                rows = _rows(metrics)
        finally:
            # Several are ended by the one that started them, and write a checkpoint before.
            process.terminate() if processes > 1 else process.kill()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    tokens = given["batch_size"] * given["length"]
    taken = [tokens / row["tokens_per_s"] for row in rows[1:STEPS]]
    return {
        "peak_bytes": rows[STEPS - 1]["peak_bytes"],
        "steps_s": taken,
        "step_s": median(taken),
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines there are."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


if __name__ == "__main__":
    sys.exit(main())
