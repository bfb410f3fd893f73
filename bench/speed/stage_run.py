"""Measure one stage: rounds of processes, in each every workload, contestants in turn."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.harness import machine
from bench.harness.machine import Clocks
from bench.harness.terminal import Say
from bench.speed import scheduler
from bench.speed.messages import JudgeBy, Ready, Task
from bench.speed.scheduler import LEAST, SAMPLE_S, WorkerHandle, ending, temporary_folder
from bench.speed.setup import BenchSetup
from bench.speed.stage_files import StageFiles
from bench.speed.worker_process import START_S, BudgetSpent, Failed
from bench.speed.workloads import FOLLOWING, PROMPT, Stage
from shared import data

# Samples that a process gives at least where there are several.
EACH = 3


@dataclass(frozen=True)
class Group:
    """Contestants timed in turn in one workload, with their results over all processes.

    ``rows`` are the sequences decoded at once; 0 in any other workload.
    """

    workload: str
    variant: str
    rows: int = 0
    workers: dict[str, WorkerHandle] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its workload, and the rows that are decoded at once."""
        return f"{self.workload} {self.rows}" if self.rows else self.workload


@dataclass(frozen=True, kw_only=True)
class ProcessRound:
    """One round of processes of a stage: a new process for each contestant."""

    stage: Stage
    number: int
    of: int

    @property
    def title(self) -> str:
        """The stage, and the number of the round where there are several."""
        count = f", start {self.number + 1} of {self.of}" if self.of > 1 else ""
        return self.stage.title + count


def new_group(stage: Stage, workload: str, rows: int = 0) -> Group:
    """A workload of a stage with the contestants that take part in it, not yet measured."""
    contestants = [one for one in stage.contestants if not rows or one.decodes]
    variant = f"batch {rows}" if rows else stage.variant
    workers = {one.name: WorkerHandle(contestant=one) for one in contestants}
    return Group(workload, variant, rows, workers)


class StageRun:
    """The measurement of a stage; ``measured()`` is what was measured so far, at any time.

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
        self.groups = [new_group(stage, name) for name in stage.workloads if name != "decode"]
        self.groups += [new_group(stage, "decode", rows) for rows in stage.rows]
        self.clocks: list[Clocks] = []
        self._active: dict[str, Sequence[WorkerHandle]] = {}

    def measured(self) -> list[Group]:
        """The groups with what was measured so far, of processes at work too."""
        return [self._with_active(group) for group in self.groups]

    def _with_active(self, group: Group) -> Group:
        active = {worker.name: worker for worker in self._active.get(group.title, ())}
        workers = {}
        for name, worker in group.workers.items():
            merged = workers[name] = copy(worker)
            merged.samples = list(worker.samples)
            if name in active:
                merged.merge(active[name])
        return replace(group, workers=workers)

    def measure(self, until: float) -> None:
        """Take samples until ``until`` (``time.monotonic``), in at least one round of processes.

        Raises ``ReferenceFailed``, and ``BudgetSpent`` at the deadline.
        """
        # Growth is of twelve sizes, and its exponents average over them.
        grows = self.stage.workloads == ("growth",)
        rounds = (self.setup.options.starts or 1) if grows else self.setup.starts
        with temporary_folder() as folder:
            files = StageFiles(
                self.setup, self.stage, folder, self.tell, self.references, self.deadline
            )
            files.write()
            for number in range(rounds):
                now = time.monotonic()
                if number and now > until:
                    break
                part = ProcessRound(stage=self.stage, number=number, of=rounds)
                self._measure_round(part, files, now + max(1.0, (until - now) / (rounds - number)))

    def _measure_round(self, part: ProcessRound, files: StageFiles, until: float) -> None:
        """A new process for each contestant that has not failed, and every workload with them."""
        everybody = self.stage.contestants
        shift = part.number % len(everybody)  # each time another one goes first
        workers = [
            WorkerHandle(contestant=one, deadline=self.deadline)
            for one in (*everybody[shift:], *everybody[:shift])
            if any(
                group.workers[one.name].failure is None
                for group in self.groups
                if one.name in group.workers
            )
        ]
        with ending(workers):
            self._make(part, files, workers)
            share = max(1.0, until - time.monotonic()) / len(self.groups)
            for number, group in enumerate(self.groups, start=1):
                active = [
                    worker
                    for worker in workers
                    if worker.name in group.workers and group.workers[worker.name].failure is None
                ]
                for worker in active:
                    worker.samples, worker.readiness = [], None
                self._active[group.title] = active
                try:
                    ends = until - share * (len(self.groups) - number)
                    self._measure_group(part, files, group, active, ends)
                finally:
                    del self._active[group.title]
                    for worker in active:
                        group.workers[worker.name].merge(worker)

    def _make(self, part: ProcessRound, files: StageFiles, workers: list[WorkerHandle]) -> None:
        """Start them, all at once: nothing is timed yet."""
        self.tell(f"{part.title}: starting {', '.join(worker.name for worker in workers)}")
        requests = {worker.name: files.make_request(worker.contestant) for worker in workers}
        for worker in workers:
            worker.start(files.folder).send(requests[worker.name])
        for worker in workers:
            with suppress(Failed):
                # They share the cores.
                worker.answer(requests[worker.name], START_S * len(workers))
                worker.made = True

    def _measure_group(
        self,
        part: ProcessRound,
        files: StageFiles,
        group: Group,
        workers: Sequence[WorkerHandle],
        until: float,
    ) -> None:
        """Warm up and check contestants in turn, then take samples round by round."""
        title = f"{group.workload}, {part.title}"
        task = Task("train" if group.workload == "growth" else group.workload)
        judge_by = None
        if group.rows:
            prompts = data.token_batch(self.stage.config, group.rows, PROMPT - 1, 100)
            task = Task("decode", prompts, FOLLOWING)
            judge_by = JudgeBy(files.compute_reference(prompts=prompts))
        spent = self._warm_up_in_turn(part, workers, task, judge_by, title)
        each = self.setup.options.samples
        if part.of > 1:
            each = max(EACH, -(-each // part.of))
        self.clocks += scheduler.sample_rounds(
            [worker for worker in workers if worker.readiness],
            task,
            wanted=each,
            until=until,
            start=part.number,
            first=int(self._samples_early),
            least=min(LEAST, each),
            device=self.setup.device,
            tell=lambda text: self.tell(f"{title}: {text}", detail=True),
            clocks=lambda: machine.clocks(self.setup.device),
            noted=self.noted,
        )
        if spent:
            raise spent

    def _warm_up_in_turn(
        self,
        part: ProcessRound,
        workers: Sequence[WorkerHandle],
        task: Task,
        judge_by: JudgeBy | None,
        title: str,
    ) -> BudgetSpent | None:
        """Warm workers up one after the other, as long as time is left to take samples.

        Where there is a deadline, each gives a sample as soon as it is ready: whatever ends the
        call then leaves a time of it. Returns why not all were warmed up.
        """
        longest = reserve = 0.0
        for worker in workers:
            begun, ends = time.monotonic(), self.deadline - reserve
            if begun + longest >= ends:
                return BudgetSpent(f"no time was left to warm {worker.name} up")
            worker.deadline = ends
            try:
                self._warm_up(worker, task, judge_by, title)
            except BudgetSpent as spent:
                worker.readiness = None  # its process has been ended
                return spent
            finally:
                worker.deadline = self.deadline
            longest = max(longest, time.monotonic() - begun)
            if worker.readiness and worker.active and self._samples_early:
                reserve += LEAST * max(worker.readiness.step_s, SAMPLE_S[self.setup.device])
                scheduler.take_sample(worker, task, part.number, 0, self.setup.device)
                self.noted()
        return None

    @property
    def _samples_early(self) -> bool:
        return self.deadline < math.inf

    def _warm_up(
        self, worker: WorkerHandle, task: Task, judge_by: JudgeBy | None, title: str
    ) -> None:
        if not worker.alive:
            if worker.failure is None:
                worker.fail("died while others had their turn")
            return
        worker.failure = None
        is_compiled = worker.contestant.settings.compiled != "none"
        begins = "compiles, warms up" if is_compiled else "warms up"
        self.tell(f"{title}: {worker.name} {begins} and is checked")
        with suppress(Failed):
            if judge_by:
                worker.ask(judge_by, 60)
            worker.set_ready(worker.ask(Ready(task)))
            worker.ask_state()
