"""A training run of both frameworks in lockstep, and a source of known entropy, as one record."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console

from bench.harness import frameworks, machine, terminal
from bench.harness.records import Json, Record, load
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from bench.training import command, curves, metrics, run_folder
from bench.training.config import RunSettings
from bench.training.metrics import StepLoss, StepMetrics
from bench.training.setup import TrainOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def markdown(record: Record) -> str:
    """Loss and speed of the training run of the preset tiny, in both frameworks."""
    run = record["runs"]["default"]
    corpus, settings = run["corpus"], run["settings"]
    optimizer = settings["train"]["optimizer"]
    rows = [
        f"`--preset tiny`: {optimizer['total_steps']:,} steps of "
        f"{settings['train']['batch_size']} x {settings['length']} tokens in "
        f"{settings['train']['dtype']}, dropout {settings['model']['drop_rate']}, on "
        f"{corpus['name']} ({corpus['files']:,} files, "
        f"{corpus['bytes'] / 1e6:.1f} MB, of which 5 % validate). Both frameworks together took "
        f"{run['seconds']:.0f} s. Predicting by frequency alone has {corpus['unigram_nats']:.3f} "
        "nats per token.",
        "",
        "| | validation loss, nats per token | tokens/s, median |",
        "|---|---|---|",
    ]
    for name, metric in run["frameworks"].items():
        loss = metric["validation"][-1][1]
        rows.append(f"| {terminal.NAMES[name]} | {loss:.4f} | {metric['tokens_per_s']:,.0f} |")
    rows += [
        "",
        f"At no step are the two losses further apart than {run['apart']:.1e}, relatively.",
    ]
    return "\n".join(rows)


def markov(record: Record) -> str:
    """How near both frameworks came to the entropy rate of a known source."""
    run = record["runs"]["markov"]
    rate = run["corpus"]["entropy_rate"]
    rows = [
        f"Entropy rate {rate:.4f} nats per token; after "
        f"{run['settings']['train']['optimizer']['total_steps']:,} steps of the tiny GPT-2:",
        "",
        "| | validation loss | over the entropy rate |",
        "|---|---|---|",
    ]
    for name, metric in run["frameworks"].items():
        loss = metric["validation"][-1][1]
        rows.append(f"| {terminal.NAMES[name]} | {loss:.4f} | {loss / rate - 1:.2%} |")
    return "\n".join(rows)


def training_figure() -> "Figure":
    """The loss curves of the run of the preset tiny, and their difference."""
    run = load("training-cpu")["runs"]["default"]
    rows = {name: losses(by_metric) for name, by_metric in run["frameworks"].items()}
    return curves.plot(rows, {"by frequency alone": run["corpus"]["unigram_nats"]})


# The runs by their name in the record. The first is the smallest preset, which drops units; it was
# the default when the record got its names.
RUNS = {
    "default": RunSettings(preset="tiny"),
    "markov": RunSettings(
        preset="tiny",
        data="markov",
        steps=300,
        length=32,
        batch_size=16,
        drop_rate=0.0,
        learning_rate=0.005,
        eval_batches=100,
    ),
}


def measure(options: StudyOptions) -> Record:
    """Train every run in a folder of its own."""
    pair = frameworks.both()
    device = frameworks.pick_device("auto", pair)
    runs = {name: _trained(settings, device) for name, settings in RUNS.items()}
    return Record(machine.environment(pair, device), {"runs": runs})


def lines(record: Record) -> Iterator[str]:
    """The difference of the losses in each run."""
    for name, run in record["runs"].items():
        yield f"{name}: {run['seconds']:.0f} s, losses at most {run['apart']:.1e} apart"


def _trained(settings: RunSettings, device: str) -> dict[str, Json]:
    """One run of both frameworks in lockstep: settings, corpus, and the metrics of every step."""
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        out = Path(folder) / "run"
        options = TrainOptions(framework="both", settings=settings, out=out, device=device)
        began = time.perf_counter()
        status = command.run(options, Console(highlight=False))
        seconds = time.perf_counter() - began
        if status:
            raise RuntimeError(f"training ended with status {status}")
        stored = run_folder.read_json(out / run_folder.CONFIG)
        steps = run_folder.stored(out).steps
        rows = {name: metrics.read(out / name / metrics.FILE, steps) for name in frameworks.NAMES}
    return {
        "given": settings.given(),
        "seconds": seconds,
        "settings": stored["run"],
        "corpus": stored["corpus"],
        "apart": curves.apart(*rows.values()),
        "frameworks": {name: _by_metric(of_framework) for name, of_framework in rows.items()},
    }


def _by_metric(rows: Sequence[StepMetrics]) -> dict[str, Json]:
    return {
        "loss": [row.loss for row in rows],
        "grad_norm": [row.grad_norm for row in rows],
        "validation": [[row.step, row.val_loss] for row in rows if row.val_loss is not None],
        "tokens_per_s": median(row.tokens_per_s for row in rows),
    }


def losses(by_metric: dict[str, Json]) -> list[StepLoss]:
    """The losses of every step, from a framework's part of the record."""
    validation = dict(map(tuple, by_metric["validation"]))
    return [
        StepLoss(step=step, loss=loss, val_loss=validation.get(step))
        for step, loss in enumerate(by_metric["loss"], start=1)
    ]


STUDY = Study(
    name="training",
    claim="Both frameworks train to the same loss, and near to the entropy of a known source",
    sources=(
        *twins("gpt2", "loss", "dropout", "optim", "train", "params", "runtime"),
        *shared("config", "corpus/*", "data", "loader", "params", "schedule", "threefry"),
        *shared("tokenizer", "train_state"),
    ),
    measure=measure,
    lines=lines,
    blocks={"learning": of_record(markdown), "markov": of_record(markov)},
)
