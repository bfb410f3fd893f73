"""The comparisons that one call of ``compare`` stands for, and the processes that make them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from queue import Empty

from bench.harness import programs
from bench.harness.frameworks import Frameworks
from bench.harness.interpreter import quick_collection
from bench.harness.programs import Program
from bench.parity import demos, places
from bench.parity.comparison import Comparison
from bench.parity.demos import Demonstrations
from bench.parity.options import DEFAULT_PRESETS, CompareOptions
from bench.parity.places import Here, JaxBeside, Messages, Place, Workers, in_each
from bench.parity.program_runs import LiveRuns, ProgramRuns, Say
from bench.parity.split_runs import SplitRuns, prepare
from shared import data, params, transformers_io
from shared.config import GPTConfig, preset
from shared.observation import Observation
from twingrad.numerics import BEYOND, Verdict
from twingrad.outcome import Gate, Outcome

TENSORS = "tensors"  # the tensor tour, which has no model


@dataclass(frozen=True, kw_only=True)
class Task:
    """One program to compare, small enough to hand to another process.

    ``parameters`` says roughly how long it takes.
    """

    make: Callable[[], Program] | None
    parameters: int = 0
    dtypes: tuple[str, ...]
    device: str
    keep: bool = False


@dataclass(kw_only=True)
class TaskResult:
    """The outcomes of one task, a dtype each, and what its chapter demonstrates."""

    title: str
    outcomes: list[Outcome]
    observed: dict[str, Observation] = field(default_factory=dict)
    demonstrations: Demonstrations = field(default_factory=Demonstrations)


def plan(options: CompareOptions, device: str) -> list[Task]:
    """The tasks of a call, all of its files read and checked."""
    for name in ("preset", "weights", "tokens", "save"):
        if getattr(options, name) is not None and options.program != "gpt2":
            raise ValueError(f"--{name} is for gpt2: say twingrad compare gpt2 --{name} ...")
    dtypes = _dtypes(options.dtype, device)
    if options.program == "gpt2":
        return _gpt2_tasks(options, dtypes, device)
    names = programs.NAMES if options.program == "all" else (options.program,)
    tasks = []
    for name in names:
        if name == "gpt2":
            tasks += [
                _gpt2_task(
                    preset(size),
                    partial(programs.gpt2, size, optimizer_layers=None if size == "tiny" else 1),
                    dtypes,
                    device,
                )
                for size in DEFAULT_PRESETS
            ]
        else:
            make = None if name == TENSORS else partial(programs.make, name)
            tasks.append(Task(make=make, dtypes=dtypes, device=device))
    return tasks


def _dtypes(dtype: str | None, device: str) -> tuple[str, ...]:
    if dtype == "all":
        rounded = ("bfloat16", "tf32") if device == "cuda" else ("bfloat16",)
        return ("float64", "float32", *rounded)
    if dtype == "float64":
        return ("float64",)
    return ("float64", dtype or "float32")


def _gpt2_task(
    config: GPTConfig,
    make: Callable[[], Program],
    dtypes: tuple[str, ...],
    device: str,
    keep: bool = False,
) -> Task:
    parameters = params.count(params.gpt2_shapes(config))
    return Task(make=make, parameters=parameters, dtypes=dtypes, device=device, keep=keep)


def _gpt2_tasks(options: CompareOptions, dtypes: tuple[str, ...], device: str) -> list[Task]:
    """The default sizes, or the one model that a preset or weights describe."""
    name, weights, tokens = options.preset, options.weights, None
    if weights is None and name is None:
        if options.tokens or options.save:
            wanted = "--tokens" if options.tokens else "--save"
            raise ValueError(f"{wanted} is for one model: say its size with --preset or --weights")
        sizes = DEFAULT_PRESETS
        return [
            _gpt2_task(preset(size), partial(programs.gpt2, size), dtypes, device) for size in sizes
        ]
    start = None
    config = preset(name) if name else None
    if weights is not None:
        if weights.is_dir() and name is not None:
            raise ValueError(
                f"--preset {name} and the folder {weights} both say the sizes: "
                "leave out --preset, the folder's config.json has them"
            )
        config, start = transformers_io.load(weights, config)
    if config is None:
        raise ValueError("a model's sizes come from --preset or --weights")
    if options.tokens is not None:
        tokens = data.load_tokens(options.tokens, config)
    make = partial(programs.gpt2, name or str(weights), config=config, start=start, tokens=tokens)
    return [_gpt2_task(config, make, dtypes, device, keep=options.save is not None)]


def compared_here(options: CompareOptions) -> bool:
    """Whether a call is about one small model, whose numbers are quickly sent between processes."""
    if options.program in ("sigmoid-bce", "simple-net"):
        return True
    if options.program != "gpt2" or options.preset is None or options.weights is not None:
        return False
    return params.count(params.gpt2_shapes(preset(options.preset))) <= programs.LARGE


def place_for(options: CompareOptions) -> AbstractContextManager[Place]:
    """Where a call computes the halves of its programs, entered before a framework is imported."""
    if not places.another_pays():
        return nullcontext(Here())
    if compared_here(options):
        return places.jax_beside()
    several = options.program == "all" or (
        options.program == "gpt2" and options.preset is None and options.weights is None
    )
    return places.workers() if several else nullcontext(Here())


def run_all(tasks: list[Task], pair: Frameworks, place: Place, say: Say) -> Iterator[TaskResult]:
    """Results in the order of ``tasks``; workers share them out."""
    if not isinstance(place, Workers):
        for task in tasks:
            yield run_task(task, pair, place, say, detailed=len(tasks) == 1)
        return
    longest_first = sorted(tasks, key=lambda task: -task.parameters)
    running = {
        id(task): place.answer(partial(place.pool.submit, _run_in_worker, task, pair))
        for task in longest_first
    }
    for task in tasks:
        _pass_on(place.messages, running[id(task)], say)
        yield place.answer(running[id(task)].result)


def _pass_on(messages: Messages, future: "Future[TaskResult]", say: Say) -> None:
    """Pass on the workers' messages until ``future`` is done."""
    latest: dict[int, str] = {}
    while not future.done():
        try:
            worker, text = messages.get(True, 0.2)
        except Empty:
            continue
        latest[worker] = text
        say("  ·  ".join(latest.values()))


def _run_in_worker(task: Task, pair: Frameworks) -> TaskResult:
    return run_task(task, pair, Here(), places.tell, detailed=False)


def run_task(task: Task, pair: Frameworks, place: Place, say: Say, detailed: bool) -> TaskResult:
    """Compare one program in every dtype; ``detailed`` adds its chapter's demonstrations."""
    if task.make is None:
        return TaskResult(title=TENSORS, outcomes=[tour_outcome()])
    program = task.make()
    runs: ProgramRuns
    if isinstance(place, JaxBeside):
        runs = SplitRuns(program=program, place=place, say=say)
        in_each(place, pair, prepare, task.make, task.device)
    else:
        runs = LiveRuns(program=program, device=task.device, say=say)
        for framework in pair:
            runs.load(framework)  # before collections are told to pass it over
    comparison = Comparison(
        program=program,
        frameworks=pair,
        device=task.device,
        say=say,
        keep=task.keep,
        last="float32" if "float32" in task.dtypes else task.dtypes[-1],
        runs=runs,
    )
    outcomes = []
    with ExitStack() as stack:
        stack.enter_context(quick_collection())
        if task.device == "cpu" and not program.is_large:
            # The sums are small: handing parts to a second thread takes longer than they do, and
            # the other framework compiles meanwhile. JAX has no such switch.
            stack.enter_context(pair[0].one_thread())
        for dtype in task.dtypes:
            outcomes.append(comparison.run(dtype))
            if not outcomes[-1].ok:
                break  # float64 is what the others are judged by
    return TaskResult(
        title=program.title,
        outcomes=outcomes,
        observed=comparison.observed,
        demonstrations=demos.demonstrate(program, pair, place, task.device, say, detailed),
    )


def tour_outcome() -> Outcome:
    """The tensor tour as a gate: rows agree, or differ where a note explains the difference.

    It is in the frameworks' defaults, and so is its device: PyTorch's is the CPU, JAX's a GPU
    where there is one.
    """
    from bench.parity import tensor_tour

    verdicts = []
    for row in tensor_tour.all_rows():
        ok = row.differs == bool(row.note)
        error = 0.0 if ok else BEYOND
        verdicts.append(
            Verdict(
                name=f"{row.name} (differs, as documented)" if row.note else row.name,
                kind="activation",
                torch_error_u=error,
                jax_error_u=error,
                mutual_error_u=error,
                peak_error_u=error,
                limit_u=1.0,
                peak_limit_u=1.0,
                error_ratio=error,
                ok=ok,
            )
        )
    gate = Gate(name="values", tensors=verdicts)
    return Outcome(program=TENSORS, preset=None, dtype="default", device="default", gates=[gate])
