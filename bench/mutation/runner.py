"""Plant every bug in turn and record which gate trips."""

import gc
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.harness.frameworks import Frameworks
from bench.harness.interpreter import quick_collection
from bench.harness.side_process import begin_worker, ended_on_error
from bench.mutation import compile_cache
from bench.mutation.cached_runs import CachedRuns, CleanResults
from bench.mutation.mutants import MUTANTS, Mutant, edited, planted
from bench.mutation.programs import PROGRAMS
from bench.mutation.results import Report, Result
from bench.parity.comparison import Comparison
from bench.parity.program_runs import LiveRuns
from twingrad.outcome import Outcome
from twingrad.suggestions import unknown
from twingrad.terminal import Say, silent

DTYPES = ("float64", "float32")
WORTH_STARTING = 16  # trials, for another process
CRASH = "crash"  # stands for a gate where the edited program raised: nothing was compared

Trial = tuple[Mutant, str]  # a bug, and the framework that it is planted in


def run(
    frameworks: Frameworks,
    device: str = "cpu",
    names: Sequence[str] | None = None,
    say: Say = silent,
    mutants: Sequence[Mutant] | None = None,
    jobs: int | None = None,
) -> Report:
    """Judge each program without a bug, then with each bug of ``mutants`` in each framework.

    ``names`` chooses among them; ``ValueError`` lists the choices if one is unknown. ``jobs`` is
    how many processes share the bugs: one a core unless given, or as few as are worth starting.
    """
    chosen = choose(MUTANTS if mutants is None else mutants, names)
    trials = [(mutant, framework) for mutant in chosen for framework in mutant.edits]
    for mutant, framework in trials:
        edited(mutant, framework)  # an edit that no longer fits is noticed now, not after minutes
    if jobs is None:
        # One GPU is not shared out.
        jobs = (os.cpu_count() or 1) if device == "cpu" else 1
        jobs = max(1, min(jobs, len(trials) // WORTH_STARTING))
    trial_runner = _TrialRunner(frameworks, device)
    report = Report(clean=[])
    with compile_cache.compiled_once() as cache, quick_collection():
        for name in dict.fromkeys(mutant.program for mutant in chosen):
            say(f"{name} without a bug")
            report.clean += _outcomes(trial_runner.comparison(name))
        results = (
            map(trial_runner.judge, trials)
            if jobs == 1
            else _in_processes(trial_runner, trials, jobs, cache)
        )
        for result in results:
            report.results.append(result)
            done = f"{len(report.results)} of {len(trials)} bugs judged"
            say(f"{done}, {report.caught} caught: {result.name} in {result.framework}", detail=True)
    return report


def choose(mutants: Sequence[Mutant], names: Sequence[str] | None) -> list[Mutant]:
    """Those of ``mutants`` that ``names`` names, or all; ``ValueError`` if one is unknown."""
    known = [mutant.name for mutant in mutants]
    for name in names or ():
        if name not in known:
            raise ValueError(unknown("mutant", name, known))
    return [mutant for mutant in mutants if names is None or mutant.name in names]


def in_turn(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Each of ``mutants`` in one framework alone, PyTorch and JAX in turn."""
    choices = [list(mutant.edits) for mutant in mutants]
    return [
        replace(mutant, edits={name: mutant.edits[name]})
        for i, mutant in enumerate(mutants)
        for name in (choices[i][i % len(choices[i])],)
    ]


@dataclass(frozen=True)
class _TrialRunner:
    """Judges bugs, and keeps by program what both frameworks compute without any."""

    frameworks: Frameworks
    device: str
    clean: dict[str, CleanResults] = field(default_factory=dict)

    def comparison(self, name: str, planted: str | None = None, file: str = "") -> Comparison:
        """The comparison of a program with a bug in ``file`` of the ``planted`` framework."""
        program = PROGRAMS[name]()
        runs = CachedRuns(
            live=LiveRuns(program=program, device=self.device),
            clean=self.clean.setdefault(name, CleanResults()),
            planted=planted,
            file=file,
        )
        return Comparison(
            program=program, frameworks=self.frameworks, device=self.device, runs=runs
        )

    def judge(self, trial: Trial) -> Result:
        """The outcome of a bug in one framework."""
        import torch

        torch.manual_seed(0)  # a bug that draws from PyTorch's generator does so alike everywhere
        mutant, framework = trial
        comparison = self.comparison(mutant.program, planted=framework, file=mutant.file)
        return _judge(mutant, framework, comparison)


def _in_processes(
    runner: _TrialRunner, trials: Sequence[Trial], jobs: int, cache: Path
) -> Iterator[Result]:
    """The results of ``trials`` in their order, from ``jobs`` processes with a copy of ``runner``.

    They are started anew: neither framework survives a fork.
    """
    start = multiprocessing.get_context("spawn")
    started = ProcessPoolExecutor(jobs, start, _start_process, (runner, cache))
    with started as pool, ended_on_error():
        yield from pool.map(_judge_here, trials)


_RUNNER: list[_TrialRunner] = []  # of a process that _in_processes has started


def _start_process(runner: _TrialRunner, cache: Path) -> None:
    """Prepare such a process."""
    begin_worker()
    import torch

    torch.set_num_threads(1)  # the other cores have bugs of their own
    copy = cache.with_name(str(os.getpid()))  # since JAX does not write its files in one piece
    shutil.copytree(cache, copy)
    compile_cache.configure(compile_cache.settings(copy))
    _RUNNER.append(runner)
    gc.freeze()


def _judge_here(trial: Trial) -> Result:
    return _RUNNER[0].judge(trial)


def _outcomes(comparison: Comparison) -> Iterator[Outcome]:
    """float64 and, where that holds, float32."""
    for dtype in DTYPES:
        outcome = comparison.run(dtype)
        yield outcome
        if not outcome.ok:
            return


def _judge(mutant: Mutant, framework: str, comparison: Comparison) -> Result:
    result = partial(
        Result, name=mutant.name, framework=framework, about=mutant.about, program=mutant.program
    )
    try:
        with planted(mutant, framework):
            outcome = list(_outcomes(comparison))[-1]
    except Exception as error:  # whatever the edited program raises; it shows nothing of the gates
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return result(caught=False, gate=CRASH, first=text)
    if outcome.ok:
        return result(caught=False)
    gate = outcome.gates[-1]
    return result(
        caught=True,
        gate=gate.name,
        dtype=outcome.dtype,
        error_ratio=float(gate.worst.error_ratio),
        first=next(tensor.name for tensor in gate.tensors if not tensor.ok),
    )
