"""The default training run of both frameworks, and a source of known entropy, as one record.

``python -m bench.learning --json FILE`` trains in a folder of its own and writes what came of it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench import curves, record, runs, sides, training

# What is trained, by the name it has in the record: the command line's settings that differ from
# the default.
PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "markov": {
        "data": "markov",
        "steps": 300,
        "length": 32,
        "batch_size": 16,
        "drop_rate": 0.0,
        "learning_rate": 0.005,
        "eval_batches": 100,
    },
}


def main(argv: list[str] | None = None) -> int:
    """Train, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    pair = sides.both()
    device = sides.pick_device("auto", pair)
    found = {name: measure(given, device) for name, given in PLANS.items()}
    if asked.json:
        content = {"environment": record.environment(pair, device), "runs": found}
        record.write_json(asked.json, content)
    return 0


def measure(given: dict[str, Any], device: str) -> dict[str, Any]:
    """One run of both frameworks in lockstep: settings, corpus, and every step's figures."""
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        out = Path(folder) / "run"
        asked = training.Asked(framework="both", given=given, out=out, device=device)
        began = time.perf_counter()
        status = training.run(asked, Console(highlight=False))
        seconds = time.perf_counter() - began
        assert status == 0, f"training ended with {status}"
        stored = runs.read_json(out / runs.CONFIG)
        steps = stored["run"]["train"]["optimizer"]["total_steps"]
        rows = {name: runs.read_metrics(out / name / runs.METRICS, steps) for name in sides.NAMES}
    return {
        "given": given,
        "seconds": seconds,
        "settings": stored["run"],
        "corpus": stored["corpus"],
        "apart": curves.apart(*rows.values()),
        "frameworks": {name: _figures(of_one) for name, of_one in rows.items()},
    }


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "loss": [row["loss"] for row in rows],
        "grad_norm": [row["grad_norm"] for row in rows],
        "validation": [[row["step"], row["val_loss"]] for row in rows if "val_loss" in row],
        "tokens_per_s": median(row["tokens_per_s"] for row in rows),
    }


def rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """A record's figures of one framework as the metrics that they were taken from."""
    validation = dict(map(tuple, figures["validation"]))
    made: list[dict[str, Any]] = []
    for step, loss in enumerate(figures["loss"], start=1):
        checked = {"val_loss": validation[step]} if step in validation else {}
        made.append({"step": step, "loss": loss} | checked)
    return made


if __name__ == "__main__":
    sys.exit(main())
