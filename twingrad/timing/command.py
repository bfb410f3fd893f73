"""The command ``bench FILE.py``: both models of a pair timed, after a check that they are equal."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from twingrad import devices, numerics
from twingrad.cli.imports import without_checkout
from twingrad.cli.options import choose, option
from twingrad.environment import environment, installed_versions, require_frameworks
from twingrad.files import require_writable, write_json
from twingrad.pair import Pair, importing_beside, load
from twingrad.terminal import NAMES, Say, progress, put, table
from twingrad.timing import rounds
from twingrad.timing.rounds import FRAMEWORKS, MODES, Failed, Mode, Task, Timed
from twingrad.timing.worker import Worker

DTYPES = ("float32", "float64")
_WHERE = {"cpu": "on the CPU", "cuda": "on a GPU"}
_PACKAGES = ("twingrad", "torch", "jax", "jaxlib", "flax", "optax")
# A loss of the whole model in one contestant against PyTorch's eager one, relative.
_LOSS_APART = {
    "float32": numerics.CEILING_U["float32"] * numerics.UNIT_ROUNDOFF["float32"],
    "float64": numerics.OWN_RELATIVE["float64"],
}


@dataclass(frozen=True, kw_only=True)
class PairBenchOptions:
    """Options of ``bench FILE.py``; ``ValueError`` says which of them is wrong."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    dtype: str = option(
        "float32", group="what is timed", choices=DTYPES, help="the dtype of both models"
    )
    modes: tuple[str, ...] = option(
        MODES,
        group="what is timed",
        metavar="M",
        offers=MODES,
        help="eager, as the models are written, and compiled, by torch.compile and jax.jit",
    )
    device: str = option(
        "auto",
        group="what is timed",
        offers=("auto", "cpu", "cuda"),
        help="auto or cpu: on the CPU; cuda: both sides on a GPU",
    )
    samples: int = option(
        7, group="how it is measured", metavar="N", help="samples of each contestant, 3 or more"
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="all samples, medians and versions"
    )

    @property
    def place(self) -> str:
        """The device by its name."""
        return "cpu" if self.device == "auto" else self.device

    def __post_init__(self) -> None:
        choose("mode", self.modes, MODES)
        if self.samples < 3:
            raise ValueError(f"--samples is {self.samples}: a median and its spread need 3 or more")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All that was timed of one pair, and whether its models are equal."""

    name: str
    dtype: str
    equal: bool
    results: Sequence[Timed]
    facts: Mapping[str, int]
    device: str = "cpu"

    def verdict(self, timed: Timed) -> str:
        """``equal`` if the models are, and this contestant's own loss is that of the others."""
        if isinstance(timed.ready, Failed):
            return ""
        losses = [t.ready.loss for t in self.results if not isinstance(t.ready, Failed)]
        limit = _LOSS_APART[self.dtype]
        same = math.isclose(timed.ready.loss, losses[0], rel_tol=limit)
        return "equal" if self.equal and same else "differs"

    @property
    def ok(self) -> bool:
        """Whether the models are equal, and every contestant that ran computes their loss."""
        return self.equal and all(self.verdict(timed) != "differs" for timed in self.results)


def run(options: PairBenchOptions, console: Console) -> int:
    """Compare the pair, time it, print and write the results; 0 if its models are equal, else 1."""
    require_writable(options.json)
    require_frameworks()
    modes: list[Mode] = [mode for mode in MODES if mode in options.modes]
    with progress(console) as say:
        with (
            devices.using(options.place),
            without_checkout(),
            importing_beside(options.file),
        ):
            pair = load(options.file)
            equal = _is_equal(pair, say)
        has_optimizers = pair.torch_optimizer is not None and pair.jax_optimizer is not None
        results, facts = _timed(options, rounds.tasks(modes, has_optimizers), say)
    benchmark = Benchmark(
        name=pair.name,
        dtype=options.dtype,
        equal=equal,
        results=results,
        facts=facts,
        device=options.place,
    )
    _show(console, benchmark, options, has_optimizers)
    if options.json:
        write_json(options.json, as_object(benchmark))
    return 0 if benchmark.ok else 1


def _is_equal(pair: Pair, say: Say) -> bool:
    from twingrad import judged  # it loads both frameworks

    outcomes, _ = judged.compare(pair, say=say)
    return all(outcome.ok for outcome in outcomes)


def _timed(
    options: PairBenchOptions, tasks: Sequence[Task], say: Say
) -> tuple[list[Timed], dict[str, int]]:
    """Samples of all tasks, each framework's taken in a process of its own."""
    with ExitStack() as running:
        say("starting a process for each framework")
        workers = {
            framework: running.enter_context(
                Worker(framework, options.file, options.dtype, options.place)
            )
            for framework in FRAMEWORKS
        }
        facts: dict[str, int] = {}
        for worker in workers.values():
            facts |= worker.facts()
        results = rounds.measure(
            tasks,
            lambda task: workers[task.framework].warm_up(task),
            lambda task, steps: workers[task.framework].sample(task, steps),
            options.samples,
            say,
        )
    return results, facts


def _show(
    console: Console, benchmark: Benchmark, options: PairBenchOptions, has_optimizers: bool
) -> None:
    rows = table(
        "workload", "framework", "mode", "median", "quartiles", "to fastest", "first call",
        "parity", title=f"{benchmark.name}, {benchmark.dtype}, {_WHERE[benchmark.device]}",
        right=("median", "quartiles", "to fastest", "first call"),
        below={"mode": "framework"},
    )  # fmt: skip
    fastest: dict[str, float] = {}
    for timed in benchmark.results:
        if timed.samples_s:
            median, workload = timed.quantile(0.5), timed.task.workload
            fastest[workload] = min(median, fastest.get(workload, median))
    for timed in benchmark.results:
        task = timed.task
        start = (task.workload, NAMES[task.framework], task.mode)
        if isinstance(timed.ready, Failed):
            rows.add_row(*start, "failed", "", "", "", "")
            continue
        median = timed.quantile(0.5)
        rows.add_row(
            *start,
            seconds(median),
            f"{seconds(timed.quantile(0.25))}–{seconds(timed.quantile(0.75))}",
            f"{median / fastest[task.workload]:.2f}",
            seconds(timed.ready.first_s),
            benchmark.verdict(timed),
        )
    put(console, rows)
    for timed in benchmark.results:
        if isinstance(timed.ready, Failed):
            where = f"{timed.task.workload}, {NAMES[timed.task.framework]}, {timed.task.mode}"
            console.print(f"{where}: {timed.ready.reason}", markup=False, soft_wrap=True)
    console.print(
        f"Medians and quartiles of {options.samples} samples, taken in turn. The first call "
        "includes compiling. parity: what twingrad compare says, and whether the loss is the "
        "others'."
    )
    if not has_optimizers:
        console.print("No training step: the pair has not both torch_optimizer and jax_optimizer.")


def seconds(value: float) -> str:
    """A time in three digits, in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def as_object(benchmark: Benchmark) -> dict[str, object]:
    """The benchmark as JSON: every sample in seconds a step, quartiles, settings and versions."""
    return {
        "ok": benchmark.ok,
        "pair": benchmark.name,
        "dtype": benchmark.dtype,
        "equal": benchmark.equal,
        "environment": environment(benchmark.device, installed_versions(_PACKAGES)),
        "threads": dict(benchmark.facts),
        "results": [_row(benchmark, timed) for timed in benchmark.results],
    }


def _row(benchmark: Benchmark, timed: Timed) -> dict[str, object]:
    task, ready = timed.task, timed.ready
    start: dict[str, object] = {
        "workload": task.workload, "framework": task.framework, "mode": task.mode,
    }  # fmt: skip
    if isinstance(ready, Failed):
        return {**start, "status": "failed", "reason": ready.reason}
    return {
        **start,
        "status": "ok",
        "parity": benchmark.verdict(timed),
        "loss": ready.loss if math.isfinite(ready.loss) else None,
        "first_s": ready.first_s,
        "steps_a_sample": timed.steps,
        "median_s": timed.quantile(0.5),
        "quartile_low_s": timed.quantile(0.25),
        "quartile_high_s": timed.quantile(0.75),
        "samples_s": timed.samples_s,
    }
