"""One benchmark: every stage within the budget, and the record of what was measured.

Every contestant has a process of its own, is checked against the float64 reference at the very
configuration that is timed, and takes its samples in turn with the others. The record can be
checked by ``--check`` without the machine.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from bench.harness import machine, records
from bench.harness.terminal import Say, silent
from bench.speed import ceilings, derivation, rows, setup
from bench.speed.cold_start import ColdRun
from bench.speed.messages import MeasureCeilings
from bench.speed.options import BenchOptions
from bench.speed.results import Ceiling, Ratio, Result, Skipped, SkipReason, SpeedRecord
from bench.speed.stage_files import ReferenceFailed
from bench.speed.stage_run import StageRun
from bench.speed.worker_process import BudgetSpent, Failed
from bench.speed.workloads import Stage, memory_bytes

# Seconds that a call may take where no budget is given.
UNLIMITED = 1e9
# The share of a budget that may go to ceilings, which no timing needs.
CEILINGS_SHARE = 0.25
# The share of free memory that the processes of one group may take.
MEMORY_SHARE = 0.8


class Bench:
    """One call of ``twingrad bench``: its setup, and what it has measured so far.

    References are kept in the folder ``references``, by default for this call alone.
    """

    def __init__(self, options: BenchOptions, tell: Say = silent, references: Path | None = None):
        self.started = time.monotonic()
        self.setup, self.tell, self.references = setup.resolve(options), tell, references
        self.runs: list[StageRun | ColdRun] = []
        self.ceilings: list[Ceiling] = []
        why = "none of the contestants takes part in it"
        self.skipped = [
            Skipped(name, why, SkipReason.NO_CONTESTANT) for name in self.setup.left_out
        ]
        self.interrupted = False

    def elapsed(self) -> float:
        """Seconds since the call."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds of the budget that remain."""
        return (self.setup.budget or UNLIMITED) - self.elapsed()

    @property
    def deadline(self) -> float:
        """The end of the budget (``time.monotonic``), at which whatever still runs is ended."""
        return self.started + (self.setup.budget or math.inf)

    def measure(self) -> None:
        """Measure every stage within the budget; the record is written after each measurement."""
        with ExitStack() as stack:
            if self.references is None:
                folder = tempfile.TemporaryDirectory(prefix="twingrad-references-")
                self.references = Path(stack.enter_context(folder))
            self._measure_stages()
        # No timing needs them, so they come last.
        self._measure_ceilings()

    def _measure_stages(self) -> None:
        budget = self.setup.budget
        total = len(self.setup.stages) + (self._of_ceilings() is not None)
        took: dict[tuple[str, ...], float] = {}
        for number, stage in enumerate(self.setup.stages):
            # The programs of overhead are alike: one shows how long another takes.
            alike = stage.workloads if stage.program != "gpt2" else (*stage.workloads, stage.title)
            needed = took.get(alike, 0.1 * (budget or 0))
            if self.left() < needed:
                left = f"{max(0.0, self.left()):.0f} s of the budget of {budget:.0f} s were left"
                why = f"{left}, and it takes {needed:.0f} s or more"
                self.skipped.append(Skipped(stage.title, why, SkipReason.BUDGET))
                continue
            begun, share = self.elapsed(), self.left() / (total - number)
            # The first stages matter most: they may take twice their share.
            until = time.monotonic() + min(2 * share, self.left())
            try:
                self._measure_stage(stage, until)
            except BudgetSpent as spent:
                why = f"{spent}; what had been measured of it is kept"
                self.skipped.append(Skipped(stage.title, why, SkipReason.BUDGET))
            took[alike] = self.elapsed() - begun
            self.write()

    def write(self) -> None:
        """Write down what has been measured so far; a record without a result would be none.

        Until the call has ended by itself, the record says that it was interrupted.
        """
        path = self.setup.options.json
        if path is None:
            return
        measured = replace(self.record(), interrupted=True)
        if measured.results:
            # Not waiting for the disk, since the next sample would have to wait too.
            records.write_json(path, measured.to_json(), durable=False)

    def _of_ceilings(self) -> Stage | None:
        """The stage whose products are measured alone, too."""
        if self.setup.options.without_ceilings:
            return None
        return next((stage for stage in self.setup.stages if stage.program == "gpt2"), None)

    def _measure_ceilings(self) -> None:
        stage = self._of_ceilings()
        if stage is None:
            return
        share = CEILINGS_SHARE * (self.setup.budget or math.inf)
        until = min(self.deadline, time.monotonic() + share)
        for framework in dict.fromkeys(one.framework for one in self.setup.contestants):
            on_cpu = framework == "torch" and self.setup.device == "cpu"
            for fast in (False, True) if on_cpu and not self.setup.brief else (True,):
                self.tell(f"ceilings of {framework}")
                request = MeasureCeilings(
                    framework=framework,
                    config=stage.config,
                    batch_size=stage.batch_size,
                    length=stage.length,
                    dtype=self.setup.dtype,
                    device=self.setup.device,
                    fast=fast,
                    parts=not self.setup.brief,
                )
                try:
                    self.ceilings.append(ceilings.measure_in_process(request, deadline=until))
                except Failed:
                    continue
                except BudgetSpent:
                    why = f"the budget ended, or they took over {CEILINGS_SHARE:.0%} of it"
                    self.skipped.append(Skipped("other ceilings", why, SkipReason.BUDGET))
                    return
                self.write()

    def _measure_stage(self, stage: Stage, until: float) -> None:
        try:
            for group in groups(stage, self.setup.device, self.setup.dtype_of(stage)):
                self._measure_group(group, until)
        except ReferenceFailed as failure:
            why = f"its float64 reference failed: {failure}"
            self.skipped.append(Skipped(stage.title, why, SkipReason.REFERENCE_FAILED))

    def _measure_group(self, stage: Stage, until: float) -> None:
        if self.references is None:
            raise RuntimeError("references have no folder before anything is measured")
        kind = ColdRun if stage.workloads == ("cold",) else StageRun
        run = kind(self.setup, stage, self.tell, self.references, self.deadline, self.write)
        self.runs.append(run)
        run.measure(until)

    @cached_property
    def environment(self) -> machine.Environment:
        """The machine, and what it was doing when the first result was written down."""
        return machine.benchmark_environment(self.setup.device)

    def record(self) -> SpeedRecord:
        """The record of what has been measured so far."""
        results: list[Result] = []
        ratios: list[Ratio] = []
        ceiling = derivation.best(self.ceilings)
        for run in self.runs:
            for group in run.measured():
                found = rows.results(group, run.stage, self.setup, ceiling)
                results += found
                ratios += derivation.ratios(found, self.setup.method)
        environment = self.environment.copy()
        environment["versions"] = dict(environment["versions"])
        for row in results:
            environment["versions"] |= row.versions
        return SpeedRecord(
            environment=environment,
            asked={
                "workloads": list(self.setup.workloads),
                "preset": self.setup.preset,
                "dtype": self.setup.dtype,
                "budget_s": self.setup.budget,
                "samples": self.setup.options.samples,
            },
            method=self.setup.method,
            seconds=self.elapsed(),
            interrupted=self.interrupted,
            skipped=tuple(self.skipped),
            ceilings=tuple(self.ceilings),
            clocks=tuple(clocks for run in self.runs for clocks in run.clocks),
            results=tuple(results),
            ratios=tuple(ratios),
            growth=tuple(derivation.growth(results)),
        )


def groups(stage: Stage, device: str, dtype: str) -> Iterator[Stage]:
    """The stage, divided where not all its processes fit into memory at once.

    The first contestant then runs in every part, so that all can be compared with it.
    """
    room = MEMORY_SHARE * machine.free_memory(device)
    needs = {one.name: memory_bytes(stage, one, dtype) for one in stage.contestants}
    if stage.workloads == ("cold",) or sum(needs.values()) <= room:
        yield stage
        return
    first, *others = stage.contestants
    part = [first]
    for one in others:
        if len(part) > 1 and sum(needs[each.name] for each in (*part, one)) > room:
            yield replace(stage, contestants=tuple(part))
            part = [first]
        part.append(one)
    yield replace(stage, contestants=tuple(part))
