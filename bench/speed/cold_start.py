"""Measure cold starts: process start to first loss, with compilation caches empty and filled."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.harness.machine import Clocks
from bench.harness.terminal import Say
from bench.speed import scheduler
from bench.speed.messages import ComputeFirstLoss, Peak, Readiness
from bench.speed.results import Sample
from bench.speed.scheduler import WorkerHandle, temporary_folder
from bench.speed.setup import BenchSetup
from bench.speed.stage_files import StageFiles
from bench.speed.stage_run import Group
from bench.speed.worker_process import START_S, Failed
from bench.speed.workloads import Stage

# Cold starts of each contestant with each cache, at least: one is one sample.
COLD_STARTS = 3


class ColdRun:
    """The measurement of cold starts; ``measured()`` is what was measured so far, at any time.

    ``references`` is the folder of references, ``noted`` is called after each measurement.
    """

    def __init__(
        self,
        setup: BenchSetup,
        stage: Stage,
        tell: Say,
        references: Path,
        deadline: float = math.inf,
        noted: Callable[[], None] = scheduler.nothing,
    ):
        self.setup, self.stage, self.tell, self.deadline = setup, stage, tell, deadline
        self.references, self.noted = references, noted
        self.clocks: list[Clocks] = []
        self.groups = [
            Group(
                "cold",
                cache,
                workers={
                    one.name: WorkerHandle(contestant=one, deadline=deadline)
                    for one in stage.contestants
                },
            )
            for cache in ("empty cache", "filled cache")
        ]

    def measured(self) -> list[Group]:
        """The groups with what was measured so far."""
        return self.groups

    def measure(self, until: float) -> None:
        """Start contestants in turn until ``until`` (``time.monotonic``), at least once each.

        Raises ``ReferenceFailed``, and ``BudgetSpent`` at the deadline.
        """
        workers = [worker for group in self.groups for worker in group.workers.values()]
        with temporary_folder(workers) as folder:
            files = StageFiles(
                self.setup, self.stage, folder, self.tell, self.references, self.deadline
            )
            files.write(2)
            for turn in range(max(COLD_STARTS, self.setup.starts)):
                if turn and time.monotonic() > until:
                    break
                # The empty cache is filled by the start that finds it empty.
                for contestant in self.stage.contestants:
                    for group in self.groups:
                        worker = group.workers[contestant.name]
                        place = f"{worker.name}, {group.variant}, start {turn + 1}"
                        self.tell(f"cold, {self.stage.title}: {place}")
                        if worker.failure is None:
                            with suppress(Failed):
                                start_cold(worker, files, turn)
                                self.noted()


def start_cold(worker: WorkerHandle, files: StageFiles, turn: int) -> None:
    """Start a process and time it until its first loss; ``Failed`` has been noted."""
    begun = time.perf_counter()
    try:
        worker.start(files.folder, files.folder / f"caches-{turn}")
        worker.ask(files.make_request(worker.contestant), START_S)
        first = worker.ask(ComputeFirstLoss())
        seconds = time.perf_counter() - begun
        worker.ask_state()
    finally:
        worker.end()
    further = WorkerHandle(contestant=worker.contestant)
    further.set_ready(Readiness(first_s=seconds, step_s=seconds, peak=Peak(), parity=first.parity))
    further.samples.append(
        Sample(start=turn, round=turn, seconds=seconds, others_cores=first.others_cores)
    )
    worker.merge(further)
