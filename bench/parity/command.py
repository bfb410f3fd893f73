"""One call of ``compare``: what was asked for becomes programs, outcomes, tables and files."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.harness import frameworks, machine, programs, records, terminal
from bench.harness.programs import Program
from bench.parity import demo_tables, demos, summary, tables
from bench.parity.comparison import Comparison
from shared import data, params, transformers_io
from shared.config import GPTConfig, preset
from shared.observation import Observation
from twingrad import outcome as twingrad_outcome
from twingrad import outcome_tables
from twingrad.numerics import BEYOND, Verdict
from twingrad.outcome import Gate, Outcome

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``compare``, its words already checked against the choices there are."""

    program: str = "all"
    preset: str | None = None
    dtype: str | None = None
    device: str = "auto"
    weights: Path | None = None
    tokens: Path | None = None
    json: Path | None = None
    save: Path | None = None
    html: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One program to compare, small enough to hand to another process."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...]
    device: str
    keep: bool = False

    @property
    def weight(self) -> int:
        """How long it takes, roughly: the longest starts first."""
        config: GPTConfig | None = self.options.get("config")
        if config is None and "preset_name" in self.options:
            config = preset(self.options["preset_name"])
        return params.count(params.gpt2_shapes(config)) if config else 0


@dataclass(kw_only=True)
class Finished:
    """What one task found."""

    title: str
    outcomes: list[Outcome]
    observed: dict[str, Observation] = field(default_factory=dict)
    lessons: dict[str, Any] = field(default_factory=dict)


def run(asked: Asked, console: Console) -> int:
    """Do what was asked; 0 if every gate holds, else 1. Raises ``ValueError`` for a wrong call."""
    started = time.perf_counter()
    pair = frameworks.both()
    device = frameworks.pick_device(asked.device, pair)
    if asked.dtype == "tf32" and device != "cuda":
        raise ValueError("dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's tensor cores")
    tasks = plan(asked, device)
    console.print("Running the same programs in PyTorch and in JAX, from the same numbers.\n")
    everything: list[Finished] = []
    with console.status("starting") as status:
        for finished in _finished(tasks, asked, terminal.saying(status)):
            everything.append(finished)
            _show(console, finished, detailed=len(tasks) == 1)
    found = [outcome for finished in everything for outcome in finished.outcomes]
    ok = all(outcome.ok for outcome in found)
    if asked.save:
        records.write_observed(asked.save, everything[-1].observed, tasks[-1].dtypes[-1])
    seconds = time.perf_counter() - started
    _write(asked, everything, device, ok, seconds)
    if len(tasks) > 1:
        summary.show(console, found)
    outcome_tables.closing(console, found, seconds)
    return 0 if ok else 1


def _write(asked: Asked, everything: list[Finished], device: str, ok: bool, seconds: float) -> None:
    """The record and the page, where they are asked for."""
    if not (asked.json or asked.html):
        return
    found = _report(everything, frameworks.both(), device, ok) | {"seconds": round(seconds, 1)}
    if asked.json:
        records.write_json(asked.json, found)
    if asked.html:
        from bench.reporting import html as reporting_html

        reporting_html.write(asked.html, found)


def plan(asked: Asked, device: str) -> list[Task]:
    """The tasks that a call stands for, all of its files read and checked."""
    dtypes: tuple[str, ...] = ("float64", "float32")
    if asked.dtype == "all":
        dtypes += ("bfloat16", "tf32") if device == "cuda" else ("bfloat16",)
    elif asked.dtype:
        dtypes = ("float64",) if asked.dtype == "float64" else ("float64", asked.dtype)
    for option in ("preset", "weights", "tokens", "save"):
        if getattr(asked, option) is not None and asked.program != "gpt2":
            raise ValueError(f"--{option} is for gpt2: say twingrad compare gpt2 --{option} ...")
    if asked.program == "gpt2":
        return [
            Task(name="gpt2", options=o, dtypes=dtypes, device=device, keep=asked.save is not None)
            for o in _gpt2_options(asked)
        ]
    names = programs.NAMES if asked.program == "all" else (asked.program,)
    return [
        Task(name=name, options=options, dtypes=dtypes, device=device)
        for name in names
        for options in (programs.DEFAULT_PRESETS if name == "gpt2" else ({},))
    ]


def _gpt2_options(asked: Asked) -> list[dict[str, Any]]:
    if asked.weights is None and asked.preset is None:
        if asked.tokens or asked.save:
            wanted = "--tokens" if asked.tokens else "--save"
            raise ValueError(f"{wanted} is for one model: say its size with --preset or --weights")
        return [{"preset_name": options["preset_name"]} for options in programs.DEFAULT_PRESETS]
    options: dict[str, Any] = {"preset_name": asked.preset or str(asked.weights)}
    if asked.weights is not None:
        if asked.weights.is_dir() and asked.preset is not None:
            raise ValueError(
                f"--preset {asked.preset} and the folder {asked.weights} both say the sizes: "
                "leave out --preset, the folder's config.json has them"
            )
        config = preset(asked.preset) if asked.preset else None
        config, given = transformers_io.load(asked.weights, config)
        options |= {"config": config, "given": given}
    else:
        config = preset(options["preset_name"])
    if asked.tokens is not None:
        options["tokens"] = data.load_tokens(asked.tokens, config)
    return [options]


def _finished(tasks: list[Task], asked: Asked, say: Say) -> Iterator[Finished]:
    """Outcomes in the order of ``tasks``; on a CPU with two cores two of them run at a time."""
    alone = len(tasks) == 1 or (os.cpu_count() or 1) < 2 or tasks[0].device != "cpu"
    if alone:
        for task in tasks:
            yield work(task, say, detailed=len(tasks) == 1)
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        heard = manager.Queue()
        # Threads that wait for a core by spinning would slow the other worker down.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            heavy_first = sorted(tasks, key=lambda task: -task.weight)
            running = {id(task): pool.submit(_work_elsewhere, task, heard) for task in heavy_first}
            try:
                for task in tasks:
                    _listen(running[id(task)], heard, say)
                    yield running[id(task)].result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _listen(future: Future, heard: Any, say: Say) -> None:
    """Pass on what the workers say until ``future`` is done."""
    latest: dict[int, str] = {}
    while not future.done():
        try:
            worker, text = heard.get(timeout=0.2)
        except Exception:  # an empty queue raises a class that depends on the manager
            continue
        latest[worker] = text
        say("  ·  ".join(latest.values()))


def _work_elsewhere(task: Task, heard: Any) -> Finished:
    return work(task, lambda text: heard.put((os.getpid(), text)), detailed=False)


def work(task: Task, say: Say, detailed: bool) -> Finished:
    """Compare one program in every dtype asked for; ``detailed`` adds its chapter's lessons."""
    if task.name == "tensors":
        return Finished(title="tensors", outcomes=[tour_outcome(task.device)])
    pair = frameworks.both()
    program = programs.make(task.name, **task.options)
    comparison = Comparison(
        program=program,
        frameworks=pair,
        device=task.device,
        say=say,
        keep=task.keep,
        last="float32" if "float32" in task.dtypes else task.dtypes[-1],
    )
    outcomes = []
    for dtype in task.dtypes:
        outcomes.append(comparison.run(dtype))
        if not outcomes[-1].ok:
            break  # float64 is what the others are judged by
    taught = _lessons(program, pair, task.device, say, detailed)
    return Finished(
        title=program.title, outcomes=outcomes, observed=comparison.observed, lessons=taught
    )


def tour_outcome(device: str) -> Outcome:
    """The tensor tour as a gate: rows agree, or differ where a note explains the difference."""
    from bench.parity import tensor_tour

    verdicts = []
    for name, differs, has_note in tensor_tour.agreement():
        ok = differs == has_note
        error = 0.0 if ok else BEYOND
        verdicts.append(
            Verdict(
                name=f"{name} (differs, as documented)" if has_note else name,
                kind="activation",
                torch_error_u=error,
                jax_error_u=error,
                mutual_error_u=error,
                peak_error_u=error,
                limit_u=1.0,
                peak_limit_u=1.0,
                factor=error,
                ok=ok,
            )
        )
    gate = Gate(name="values", tensors=verdicts)
    return Outcome(program="tensors", preset=None, dtype="default", device=device, gates=[gate])


def _lessons(
    program: Program, pair: frameworks.Frameworks, device: str, say: Say, detailed: bool
) -> dict[str, Any]:
    taught: dict[str, Any] = {}
    if program.name == "sigmoid-bce":
        taught["neuron"] = demos.neuron(pair, device)
        if detailed:
            say("sigmoid-bce: what automatic differentiation is worth")
            taught["saturation"] = demos.saturation(pair, device)
            taught["graphs"] = demos.graphs(pair, device)
            taught["step_sizes"] = demos.step_sizes(pair, device)
            taught["cost"] = demos.cost(pair, device)
    if program.name == "simple-net" and detailed:
        taught["accumulation"] = demos.accumulation(pair, device)
    if program.name == "gpt2" and detailed:
        taught["parameters"] = demos.parameter_table(program.params)
    return taught


def _show(console: Console, finished: Finished, detailed: bool) -> None:
    for name, lesson in finished.lessons.items():
        if name == "parameters":
            demo_tables.parameters(console, finished.title, lesson)
        else:
            getattr(demo_tables, name)(console, lesson)
    if detailed:
        for outcome in finished.outcomes:
            for gate in outcome.gates:
                outcome_tables.worst_tensors(console, gate, outcome.dtype, tables.RULES[gate.name])
    outcome_tables.outcomes(console, finished.title, finished.outcomes)


def _report(
    everything: list[Finished], pair: frameworks.Frameworks, device: str, ok: bool
) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for finished in everything:
        for outcome in finished.outcomes:
            found.append(dict(twingrad_outcome.outcome_object(outcome)))
        if finished.lessons:
            found[-1]["lessons"] = finished.lessons
    return {"ok": ok, "environment": machine.environment(pair, device), "programs": found}
