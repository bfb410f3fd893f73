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

from bench.harness import frameworks, machine, records, terminal
from bench.harness.records import load
from bench.studies import training_runs
from bench.training import command, curves, run_folder


def training(argument: str) -> str:
    """What the default training run came to, in both frameworks."""
    run = load(argument)["runs"]["default"]
    corpus, settings = run["corpus"], run["settings"]
    optimizer = settings["train"]["optimizer"]
    lines = [
        f"The default: {optimizer['total_steps']:,} steps of {settings['train']['batch_size']} x "
        f"{settings['length']} tokens in {settings['train']['dtype']}, dropout "
        f"{settings['model']['drop_rate']}, on {corpus['name']} ({corpus['files']:,} files, "
        f"{corpus['bytes'] / 1e6:.1f} MB, of which 5 % validate). Both frameworks together took "
        f"{run['seconds']:.0f} s. Predicting by frequency alone has {corpus['unigram_nats']:.3f} "
        "nats per token.",
        "",
        "| | validation loss, nats per token | tokens/s, median |",
        "|---|---|---|",
    ]
    for name, figures in run["frameworks"].items():
        loss = figures["validation"][-1][1]
        lines.append(f"| {terminal.NAMES[name]} | {loss:.4f} | {figures['tokens_per_s']:,.0f} |")
    lines += [
        "",
        f"At no step are the two losses further apart than {run['apart']:.1e}, relatively.",
    ]
    return "\n".join(lines)


def markov(argument: str) -> str:
    """How near both frameworks came to the entropy rate of a known source."""
    run = load(argument)["runs"]["markov"]
    rate = run["corpus"]["entropy_rate"]
    lines = [
        f"Entropy rate {rate:.4f} nats per token; after "
        f"{run['settings']['train']['optimizer']['total_steps']:,} steps of the tiny GPT-2:",
        "",
        "| | validation loss | over the entropy rate |",
        "|---|---|---|",
    ]
    for name, figures in run["frameworks"].items():
        loss = figures["validation"][-1][1]
        lines.append(f"| {terminal.NAMES[name]} | {loss:.4f} | {loss / rate - 1:.2%} |")
    return "\n".join(lines)


def training_figure() -> Any:
    """The loss curves of the default run, and their difference."""
    run = load("training-cpu")["runs"]["default"]
    rows = {name: training_runs.rows(figures) for name, figures in run["frameworks"].items()}
    return curves.plot(rows, {"by frequency alone": run["corpus"]["unigram_nats"]})


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
    pair = frameworks.both()
    device = frameworks.pick_device("auto", pair)
    found = {name: measure(given, device) for name, given in PLANS.items()}
    if asked.json:
        content = {"environment": machine.environment(pair, device), "runs": found}
        records.write_json(asked.json, content)
    return 0


def measure(given: dict[str, Any], device: str) -> dict[str, Any]:
    """One run of both frameworks in lockstep: settings, corpus, and every step's figures."""
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        out = Path(folder) / "run"
        asked = command.Asked(framework="both", given=given, out=out, device=device)
        began = time.perf_counter()
        status = command.run(asked, Console(highlight=False))
        seconds = time.perf_counter() - began
        assert status == 0, f"training ended with {status}"
        stored = run_folder.read_json(out / run_folder.CONFIG)
        steps = stored["run"]["train"]["optimizer"]["total_steps"]
        rows = {
            name: run_folder.read_metrics(out / name / run_folder.METRICS, steps)
            for name in frameworks.NAMES
        }
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
