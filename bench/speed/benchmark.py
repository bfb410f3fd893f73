"""One benchmark: every stage within the budget, and the record of what was measured.

Every contestant has a process of its own, is checked against the float64 reference at the very
configuration that is timed, and takes its samples in turn with the others. The record can be
checked by ``--check`` without the machine.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace

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
    """One call of ``twingrad bench``: its setup, and what it has measured so far."""

    def __init__(self, options: BenchOptions, tell: Say = silent):
        self.started = time.monotonic()
        self.setup, self.tell = setup.resolve(options), tell
        self.results: list[Result] = []
        self.ratios: list[Ratio] = []
        self.ceilings: list[Ceiling] = []
        self.clocks: list[machine.Clocks] = []
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
        """Measure every stage within the budget; the record is written after each."""
        self._measure_ceilings()
        budget, total = self.setup.budget, len(self.setup.stages)
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
            if self.setup.options.json:
                records.write_json(self.setup.options.json, self.record().to_json())

    def _measure_ceilings(self) -> None:
        stage = next((stage for stage in self.setup.stages if stage.program == "gpt2"), None)
        if stage is None:
            return
        until = self.started + CEILINGS_SHARE * (self.setup.budget or math.inf)
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
                    why = f"they took over {CEILINGS_SHARE:.0%} of the budget"
                    self.skipped.append(Skipped("other ceilings", why, SkipReason.BUDGET))
                    return

    def _measure_stage(self, stage: Stage, until: float) -> None:
        try:
            for group in groups(stage, self.setup.device):
                self._measure_group(group, until)
        except ReferenceFailed as failure:
            why = f"its float64 reference failed: {failure}"
            self.skipped.append(Skipped(stage.title, why, SkipReason.REFERENCE_FAILED))

    def _measure_group(self, stage: Stage, until: float) -> None:
        kind = ColdRun if stage.workloads == ("cold",) else StageRun
        run = kind(self.setup, stage, self.tell, self.deadline)
        try:
            run.measure(until)
        finally:  # Ctrl-C loses no sample
            self.clocks += run.clocks
            ceiling = derivation.best(self.ceilings)
            for group in run.groups:
                results = rows.results(group, stage, self.setup, ceiling)
                self.results += results
                self.ratios += derivation.ratios(results, self.setup.method)

    def record(self) -> SpeedRecord:
        """The record of what has been measured so far."""
        environment = machine.benchmark_environment(self.setup.device)
        for row in self.results:
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
            clocks=tuple(self.clocks),
            results=tuple(self.results),
            ratios=tuple(self.ratios),
            growth=tuple(derivation.growth(self.results)),
        )


def groups(stage: Stage, device: str) -> Iterator[Stage]:
    """The stage, divided where not all its processes fit into memory at once.

    The first contestant then runs in every part, so that all can be compared with it.
    """
    fit = max(2, int(MEMORY_SHARE * machine.free_memory(device) // memory_bytes(stage)))
    if stage.workloads == ("cold",) or len(stage.contestants) <= fit:
        yield stage
        return
    first, *others = stage.contestants
    for i in range(0, len(others), fit - 1):
        yield replace(stage, contestants=(first, *others[i : i + fit - 1]))
