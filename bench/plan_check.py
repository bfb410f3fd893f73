"""Plans held against runs: ``python -m bench.plan_check --json FILE`` measures and writes a record.

Each size and framework is a fresh process of ``twingrad train`` in its plain configuration, ended
once it has taken its steps; its own metrics say what they took. A run whose tensors are next to
nothing gives the floor: what a process takes before it has a model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench import plan, planning, record, runs, sides
from bench.plan import FRAMEWORKS, Plan

# A middle one that attention decides: small, at GPT-2's whole length.
SIZES = ({"preset": "small", "length": 256, "batch_size": 4},
         {"preset": "small", "length": 1024, "batch_size": 2},
         {"preset": "124m", "length": 256, "batch_size": 2})  # fmt: skip
FLOOR = {"preset": "tiny", "length": 32, "batch_size": 2}
# Steps of a run; the first compiles and is not counted.
STEPS = 5
WAIT_S = 300.0


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.plan_check", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    floors = {name: train(name, FLOOR)["peak_bytes"] for name in FRAMEWORKS}
    sizes = []
    for given in SIZES:
        step = planned(given)
        found = planning.measure(step, FRAMEWORKS)
        rows = []
        for name in FRAMEWORKS:
            rows.append(compared(step, name, found[name]["ceilings"], floors[name], given))
            print(
                given, name, *(f"{k} {v:+.1%}" for k, v in rows[-1]["errors"].items()), flush=True
            )
        ceilings = [one["ceilings"] for one in found.values()]
        sizes.append({**given, "ceilings": ceilings, "rows": rows})
    if asked.json:
        content = {
            "environment": record.environment(sides.both(), "cpu"),
            "asked": {"dtype": "float32", "steps": STEPS},
            "floors": floors,
            "sizes": sizes,
        }
        record.write_json(asked.json, content)
    return 0


def planned(given: dict[str, Any]) -> Plan:
    """The plan of a plain run with these settings."""
    run = runs.resolve(given)
    return Plan(model=run.model, train=run.train, length=run.length)


def compared(
    step: Plan, name: str, ceilings: dict[str, Any], floor: int, given: dict[str, Any]
) -> dict[str, Any]:
    """What is planned, what is measured, and how far the plan is from it, relatively."""
    memory, seconds = plan.memory(step, name), plan.seconds(step, name, plan.rates(ceilings))
    peak, step_s = floor + memory.tensors, sum(seconds.values())
    measured = train(name, given)
    own = measured["peak_bytes"] - floor
    return {
        "framework": name,
        "planned": {
            "memory": asdict(memory),
            "peak_bytes": peak,
            "seconds": seconds,
            "step_s": step_s,
        },
        "measured": measured,
        "errors": {
            "peak": peak / measured["peak_bytes"] - 1,
            "beyond_floor": memory.tensors / own - 1,
            "step": step_s / measured["step_s"] - 1,
        },
    }


def train(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Peak memory and seconds a step of a run in a process of its own, ended after ``STEPS``.

    Raises ``RuntimeError`` with what it said last where it ends before.
    """
    options = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    with tempfile.TemporaryDirectory(prefix="twingrad-plan-") as folder:
        out, said = Path(folder, "run"), Path(folder, "said")
        metrics = out / name / runs.METRICS
        with said.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", "train", f"--framework={name}", f"--out={out}",
                 f"--steps={1000 * STEPS}", *options],
                cwd=record.ROOT, stdout=file, stderr=file,
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
