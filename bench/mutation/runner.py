"""Plant every bug in turn and record which gate trips."""

import gc
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape

from bench.harness import programs, terminal
from bench.harness.frameworks import NAMES, Framework, Frameworks
from bench.harness.programs import Program
from bench.harness.records import load
from bench.mutation.mutants import MUTANTS, Mutant, edited, planted
from bench.parity.comparison import Comparison, Figures
from shared import params
from shared.config import IGNORED, GPTConfig
from shared.observation import Observation
from shared.params import Params
from twingrad.outcome import Gate, Outcome


def mutants(argument: str) -> str:
    """The table of planted bugs: which gate caught each, and by what factor."""
    report = load(argument)
    by_name: dict[str, dict[str, Any]] = {}
    for row in report["mutants"]:
        by_name.setdefault(row["name"], {})[row["side"]] = row
    lines = ["| planted bug | in PyTorch | in JAX |", "|---|---|---|"]
    for row_of in by_name.values():
        about = next(iter(row_of.values()))["about"]
        cells = [_caught(row_of.get(side)) for side in ("torch", "jax")]
        lines.append(f"| {about} | {cells[0]} | {cells[1]} |")
    caught = sum(row["caught"] for row in report["mutants"])
    trips = "nothing trips" if report["clean_ok"] else "a gate trips"
    lines += ["", f"{caught} of {len(report['mutants'])} caught; {trips} where there is none."]
    return "\n".join(lines)


def _caught(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    if not row["caught"]:
        return "**not caught**"
    factor = "" if row["factor"] is None else f", {_times(row['factor'])}"
    return f"{row['gate']}{factor}"


def _times(factor: float) -> str:
    if factor >= 1e299:
        return "not a number"
    return f"{factor:,.0f}×" if 10 <= factor < 1e6 else f"{factor:.2g}×"


T = TypeVar("T")
DTYPES = ("float64", "float32")
# What runs nothing of these files. Were one of them named in error, its bugs would be missed.
UNTOUCHED = {
    "optim.py": ("pass",),
    "train.py": ("pass", "optimizer"),
    "dropout.py": ("pass", "optimizer"),
}
WORTH_STARTING = 16  # trials, for another process
CRASH = "crash"  # stands for a gate where the edited program raised instead of computing


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one bug on one side: the gate that tripped, how far, and where first."""

    name: str
    side: str
    about: str
    program: str
    caught: bool
    gate: str | None = None
    dtype: str | None = None
    factor: float | None = None
    first: str | None = None


@dataclass(kw_only=True)
class Report:
    """The programs without a bug, and every bug on every side."""

    clean: list[Outcome]
    results: list[Result] = field(default_factory=list)

    @property
    def clean_ok(self) -> bool:
        """Whether every gate holds where nothing was planted."""
        return bool(self.clean) and all(outcome.ok for outcome in self.clean)

    @property
    def caught(self) -> int:
        """How many of the planted bugs a gate caught."""
        return sum(result.caught for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every planted bug was caught, and nothing where there was none."""
        return self.clean_ok and bool(self.results) and self.caught == len(self.results)


def _gpt2() -> Program:
    """A GPT-2 small enough to be compiled a hundred times, and awkward enough to hide no bug.

    No two of its sizes are equal, and the loss is taken in chunks that do not come out even. The
    position embedding has a mean, as the residual stream of a trained model does, without which a
    careless variance costs nothing. In every other batch few targets count, most of them in one
    micro-batch. Gradients are larger then, so that some training steps are clipped and some are
    not: where all are, a gradient of the wrong size trains as the right one does.
    """
    config = GPTConfig(
        vocab_size=61, context_length=16, emb_dim=28, n_heads=4, n_layers=2, qkv_bias=True
    )
    given = params.init_gpt2(config, spread=programs.SPREAD)
    given["wpe.weight"] += np.float32(0.3)
    made = programs.gpt2("small", config=config, given=given, size=(6, 13), steps=6)
    for _, targets in made.batches[1::2]:
        targets[:3, :8] = targets[3:, :-1] = IGNORED
    assert made.training is not None
    return replace(made, training=replace(made.training, loss_chunk=16))


def _simple_net() -> Program:
    """``SimpleNet`` in the plain training loop, with an optimizer that remembers.

    Some of its steps are clipped and some are not, for the same reason.
    """
    made = programs.simple_net(steps=8)
    adamw = replace(programs.adamw(steps=8), max_grad_norm=0.3)
    return replace(made, optimizers={"adamw": adamw}, trajectory_optimizer="adamw")


PROGRAMS: dict[str, Callable[[], Program]] = {"gpt2": _gpt2, "simple-net": _simple_net}


def run(
    sides: Frameworks,
    device: str = "cpu",
    names: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    mutants: Sequence[Mutant] | None = None,
    jobs: int | None = None,
) -> Report:
    """Judge each program without a bug, then with each bug of ``mutants`` on each of its sides.

    ``names`` chooses among them; ``ValueError`` lists the choices if one is unknown. ``jobs`` is
    how many processes share the bugs: one a core unless given, or as few as are worth starting.
    """
    chosen = _chosen(MUTANTS if mutants is None else mutants, names)
    trials = [(mutant, side) for mutant in chosen for side in mutant.edits]
    for mutant, side in trials:
        edited(mutant, side)  # an edit that no longer fits is found now, not after minutes
    if jobs is None:
        # One GPU is not shared out.
        jobs = (os.cpu_count() or 1) if device == "cpu" else 1
        jobs = max(1, min(jobs, len(trials) // WORTH_STARTING))
    court = _Court(sides, device)
    report = Report(clean=[])
    with compiled_once() as cache, _quick_collection():
        for name in dict.fromkeys(mutant.program for mutant in chosen):
            say(f"{name} without a bug")
            report.clean += _outcomes(court.comparison(name))
        judged = map(court.judged, trials) if jobs == 1 else _shared(court, trials, jobs, cache)
        for result in judged:
            report.results.append(result)
            done = f"{len(report.results)} of {len(trials)} bugs judged"
            say(f"{done}, {report.caught} caught: {result.name} in {result.side}")
    return report


def in_turn(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Each of ``mutants`` on one of its sides alone, PyTorch and JAX in turn."""
    sides = [list(mutant.edits) for mutant in mutants]
    return [
        replace(mutant, edits={side: mutant.edits[side]})
        for i, mutant in enumerate(mutants)
        for side in (sides[i][i % len(sides[i])],)
    ]


@dataclass(frozen=True)
class _Court:
    """Where bugs are judged, and by program what both sides compute without any."""

    sides: Frameworks
    device: str
    clean: dict[str, dict[tuple[str, ...], Any]] = field(default_factory=dict)

    def comparison(self, program: str, planted: str | None = None, file: str = "") -> Comparison:
        """The comparison that judges ``program`` with a bug in ``file`` of the ``planted`` side."""
        return _Trial(
            program=PROGRAMS[program](),
            sides=self.sides,
            device=self.device,
            planted=planted,
            file=file,
            clean=self.clean.setdefault(program, {}),
        )

    def judged(self, trial: tuple[Mutant, str]) -> Result:
        """What becomes of a mutant on one side."""
        import torch

        torch.manual_seed(0)  # a bug that draws from PyTorch's generator does so alike everywhere
        mutant, side = trial
        comparison = self.comparison(mutant.program, planted=side, file=mutant.file)
        return _judged(mutant, side, comparison)


def _shared(
    court: _Court, trials: Sequence[tuple[Mutant, str]], jobs: int, cache: Path
) -> Iterator[Result]:
    """The results of ``trials`` in their order, from ``jobs`` processes that were given the court.

    They are started anew: neither framework survives a fork.
    """
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, start, _begin, (court, cache)) as pool:
        yield from pool.map(_judged_here, trials)


_COURT: list[_Court] = []  # of a process that _shared has started


def _begin(court: _Court, cache: Path) -> None:
    """What such a process does first."""
    import torch

    torch.set_num_threads(1)  # the other cores have bugs of their own
    own = cache.with_name(str(os.getpid()))  # since JAX does not write its files in one piece
    shutil.copytree(cache, own)
    _configure(_caching_in(own))
    _COURT.append(court)
    gc.freeze()


def _judged_here(trial: tuple[Mutant, str]) -> Result:
    return _COURT[0].judged(trial)


def _chosen(mutants: Sequence[Mutant], names: Sequence[str] | None) -> list[Mutant]:
    known = [mutant.name for mutant in mutants]
    for name in names or ():
        if name not in known:
            raise ValueError(f"unknown mutant {name!r}: choose from {', '.join(known)}")
    return [mutant for mutant in mutants if names is None or mutant.name in names]


def _outcomes(comparison: Comparison) -> Iterator[Outcome]:
    """float64 and, where that holds, float32."""
    for dtype in DTYPES:
        outcome = comparison.run(dtype)
        yield outcome
        if not outcome.ok:
            return


def _judged(mutant: Mutant, side: str, comparison: Comparison) -> Result:
    result = partial(
        Result, name=mutant.name, side=side, about=mutant.about, program=mutant.program
    )
    try:
        with planted(mutant, side):
            outcome = list(_outcomes(comparison))[-1]
    except Exception as error:  # whatever the edited program raises is what the bug does
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return result(caught=True, gate=CRASH, first=text)
    if outcome.ok:
        return result(caught=False)
    gate = outcome.gates[-1]
    return result(
        caught=True,
        gate=gate.name,
        dtype=outcome.dtype,
        factor=float(gate.worst.factor),
        first=next(tensor.name for tensor in gate.tensors if not tensor.ok),
    )


@dataclass(kw_only=True)
class _Trial(Comparison):
    """A comparison that computes the ``planted`` side, and the other one once for all trials.

    Of the planted side too it computes no gate that runs nothing of ``file``.
    """

    planted: str | None = None
    file: str = ""
    clean: dict[tuple[str, ...], Any]

    def observe(self, side: Framework, dtype: str) -> Observation:
        """One pass of one side, from ``clean`` where nothing is planted."""
        return self._once(side, ("pass", dtype), partial(super().observe, side, dtype))

    def _pass(self, dtype: str) -> Gate:
        gate = super()._pass(dtype)
        # Once float64 holds, both results can be the oracle. The clean one stays it, since the
        # gradients that are injected into the optimizers are made from it.
        self._oracle = self.clean.get((self.sides[0].name, "pass", "float64"), self._oracle)
        return gate

    def _stepped(self, side: Framework, dtype: str, name: str) -> dict[int, Params]:
        key = ("optimizer", dtype, name)
        return self._once(side, key, partial(super()._stepped, side, dtype, name))

    def _figures(self, side: Framework, dtype: str, params: Params | None = None) -> Figures:
        compute = partial(super()._figures, side, dtype, params)
        return compute() if params else self._once(side, ("trajectory", dtype), compute)

    def _neighbours(self, dtype: str) -> list[Figures]:
        compute = partial(super()._neighbours, dtype)
        return self._once(self.sides[0], ("neighbours", dtype), compute)

    def _once(self, side: Framework, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        if side.name == self.planted and key[0] not in UNTOUCHED.get(self.file, ()):
            return compute()
        key = (side.name, *key)
        if key not in self.clean:
            self.clean[key] = compute()
        return self.clean[key]


@contextmanager
def compiled_once() -> Iterator[Path]:
    """Within, XLA compiles no program twice: what a bug leaves alone was compiled before."""
    with tempfile.TemporaryDirectory(prefix="twingrad-") as folder:
        cache = Path(folder) / "compiled"
        before = _configure(_caching_in(cache))
        try:
            yield cache
        finally:
            _configure(before)


def _caching_in(folder: Path) -> dict[str, Any]:
    """JAX's settings for keeping all that it compiles in ``folder``."""
    return {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_compilation_cache_dir": str(folder),
    }


def _configure(settings: dict[str, Any]) -> dict[str, Any]:
    """Change JAX's settings for its cache, and return what they were."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {key: getattr(jax.config, key) for key in settings}
    for key, value in settings.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()
    return before


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Within, the engine's garbage collections pass over what both frameworks have loaded."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def report_object(report: Report) -> dict[str, Any]:
    """The report as the JSON contract has it."""
    rows = []
    for result in report.results:
        factor = None if result.factor is None else float(f"{result.factor:.6g}")
        rows.append({**vars(result), "factor": factor})
    return {"ok": report.ok, "clean_ok": report.clean_ok, "mutants": rows}


def render(console: Console, report: Report) -> None:
    """The table of bugs, what caught each on either side, and the sum of it in one line."""
    by_name: dict[str, dict[str, Result]] = {}
    for result in report.results:
        by_name.setdefault(result.name, {})[result.side] = result
    table = terminal.table("planted bug", *(terminal.NAMES[side] for side in NAMES))
    for name, found in by_name.items():
        about = next(iter(found.values())).about
        cells = [_cell(found.get(side)) for side in NAMES]
        table.add_row(f"{escape(name)}  [dim]{escape(about)}[/dim]", *cells)
    console.print(table)
    for outcome in report.clean:
        if not outcome.ok:
            gate = outcome.gates[-1]
            console.print(
                f"[red]{outcome.program} without a bug fails[/red] gate {gate.name} in "
                f"{outcome.dtype} at {escape(gate.worst.name)}."
            )
    caught = f"{report.caught} of {len(report.results)} planted bugs caught"
    trips = "nothing trips" if report.clean_ok else "a gate trips"
    console.print(f"{caught}; {trips} where there is none.")


def _cell(result: Result | None) -> str:
    if result is None:
        return "[dim]–[/dim]"
    if not result.caught:
        return "[red]not caught[/red]"
    if result.factor is None:
        return f"{result.gate}"
    where = result.gate if result.gate == result.dtype else f"{result.gate}, {result.dtype}"
    return f"{where} ×{terminal.units(result.factor)}"
