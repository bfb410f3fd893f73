"""What Python adds to a training step beside the computation, in either framework.

A step of a model so small that it computes next to nothing is timed in turn with the same call on
arguments that are ready: JAX's one program of the step; PyTorch's compiled loss, its backward pass
and the update. What the step takes longer is what the host does for it: keys of dropout, batches
to tensors, counters.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from statistics import median

from bench.harness import frameworks, machine, programs
from bench.harness.foreign import Batch, Tensor
from bench.harness.frameworks import Framework
from bench.harness.machine import Load
from bench.harness.records import Json, Record
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from shared import data, params
from shared.config import AdamWConfig, GPTConfig, TrainConfig

LAYERS, RATES = (1, 12), (0.0, 0.1)
STEPS, WARM_UP = 400, 20
# The most that a step may take longer than its computation, in seconds.
MOST = {"torch": 0.5e-3, "jax": 0.3e-3}
_TITLES = {"torch": "PyTorch", "jax": "JAX"}
Work = Callable[[], object]


def model_of(layers: int, rate: float) -> GPTConfig:
    """A GPT-2 of width 8, which computes next to nothing."""
    return GPTConfig(
        vocab_size=31, context_length=8, emb_dim=8, n_heads=1, n_layers=layers, drop_rate=rate
    )


def measure(options: StudyOptions) -> Record:
    """Time the steps of both frameworks at every size, each in a process of its own.

    In one process, threads of one framework wait for work while the other computes.
    """
    load, began, rows = Load(), time.perf_counter(), []
    for name in frameworks.NAMES:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(rows_of, name, STEPS).result()
    seconds = time.perf_counter() - began
    return Record(
        machine.environment(frameworks.both(), "cpu"),
        {"steps": STEPS, "seconds": seconds, "others_cores": load.others(seconds), "rows": rows},
    )


def rows_of(name: str, steps: int) -> list[dict[str, Json]]:
    """The rows of a framework."""
    framework = frameworks.one(name)
    return [row_of(framework, layers, rate, steps) for layers in LAYERS for rate in RATES]


def row_of(framework: Framework, layers: int, rate: float, steps: int) -> dict[str, Json]:
    """Median seconds of a step and of its computation alone, and of their difference."""
    step, bare = calls(framework, layers, rate)
    for _ in range(WARM_UP):
        step()
        bare()
    pairs = []
    gc.collect()
    gc.disable()
    try:
        for number in range(steps):
            first, second = (step, bare) if number % 2 else (bare, step)
            one, other = _seconds(first), _seconds(second)
            pairs.append((one, other) if number % 2 else (other, one))
    finally:
        gc.enable()
    return {
        "framework": framework.name,
        "layers": layers,
        "dropout": rate,
        "step_s": median(one for one, _ in pairs),
        "computation_s": median(other for _, other in pairs),
        "host_s": median(one - other for one, other in pairs),
    }


def calls(framework: Framework, layers: int, rate: float) -> tuple[Work, Work]:
    """A training step with all that belongs to it, and its computation on ready arguments."""
    model = model_of(layers, rate)
    runtime = framework.runtime.configure("float32", "cpu")
    start = params.init_gpt2(model, 0, programs.SPREAD)
    made = framework.params.build(lambda: framework.make_gpt2(model), start, runtime.master)
    config = TrainConfig(
        optimizer=AdamWConfig(), batch_size=2, dtype="float32", compile=framework.name == "torch"
    )
    trainer = framework.train.Trainer(made, config, runtime)
    batch = tuple(part[None] for part in data.split_tokens(data.token_batch(model, 2, 4, 0)))

    def step() -> float:
        return float(trainer.step(*batch).loss)

    bare = _torch_bare if framework.name == "torch" else _jax_bare
    return step, bare(trainer, batch, runtime)


def _torch_bare(trainer: Tensor, batch: Batch, runtime: Tensor) -> Work:
    inputs, targets = runtime.batch(*(part[0] for part in batch))
    chunk, count = trainer.config.loss_chunk, targets.numel()

    def bare() -> float:
        trainer.optimizer.zero_grad()
        loss = trainer._summed_loss(inputs, targets, chunk) / count
        loss.backward()
        trainer.optimizer.step(loss.detach())
        return float(loss.detach())

    return bare


def _jax_bare(trainer: Tensor, batch: Batch, runtime: Tensor) -> Work:
    import jax

    ready = jax.device_put(trainer._batch(*batch))

    def bare() -> float:
        trainer.leaves, loss, _ = trainer._step(trainer.leaves, ready)
        return float(loss)

    return bare


def _seconds(work: Work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def markdown(record: Record) -> str:
    """A table of both frameworks at every size."""
    lines = [
        "| framework | layers | dropout | a step | its computation alone | Python |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {_TITLES[row['framework']]} | {row['layers']} | {row['dropout']:g} "
            f"| {_shown(row['step_s'])} | {_shown(row['computation_s'])} "
            f"| {_shown(row['host_s'])} |"
        )
    return "\n".join(lines)


def _shown(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def lines(record: Record) -> Iterator[str]:
    """Every row, and those over their bound."""
    for row in record["rows"]:
        yield (
            f"{row['framework']}, {row['layers']} layers, dropout {row['dropout']:g}: "
            f"{_shown(row['host_s'])} of {_shown(row['step_s'])}"
        )
    yield from broken(record)


def broken(record: Record) -> Iterator[str]:
    """The rows in which Python takes longer than it may."""
    for row in record["rows"]:
        most = MOST[row["framework"]]
        if row["host_s"] > most:
            yield (
                f"{row['framework']}, {row['layers']} layers, dropout {row['dropout']:g}: Python "
                f"takes {_shown(row['host_s'])} of a step, and {_shown(most)} at most are allowed"
            )


# Not among the registered ones, since there is no record yet.
STUDY = Study(
    name="host-times",
    claim="Python adds less than a millisecond to a training step, however many layers it has",
    sources=(
        *twins("train", "optim", "dropout", "runtime", "distributed"),
        *shared("train_state"),
        "bench/studies/host_times.py::row_of",
        "bench/studies/host_times.py::calls",
    ),
    measure=measure,
    lines=lines,
    holds=lambda record: not any(broken(record)),
    blocks={"host-times": of_record(markdown)},
)
