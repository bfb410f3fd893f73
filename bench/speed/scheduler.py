"""Sample rounds: contestants of a group are timed in turn, one sample each, round after round.

Nothing here knows what is timed. A slow minute slows all contestants of a round; a sample during
which something else kept the machine busy is taken again.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from bench.harness.machine import Clocks
from bench.speed import worker_process
from bench.speed.contestants import Contestant
from bench.speed.json_form import Json
from bench.speed.messages import Answer, Readiness, ReportState, Request, Task, TimeSteps
from bench.speed.results import Outcome, Parity, Sample, Status
from bench.speed.worker_process import WORK_S, BudgetSpent, Failed, WorkerProcess
from twingrad import whole

# The share of the machine's cores that others may keep busy during a sample that counts.
QUIET_SHARE = 0.05
# Rounds that are run however little time is left: one sample has no spread.
LEAST = 5
# How many samples are taken at most for each that is wanted.
RETAKES = 3
# A sample is made of as many steps as take this long: the kernel counts in hundredths of a second,
# of which two must be less than what others may keep busy. On a GPU the first step of a sample
# waits for nothing before it and the last for all after it, so that four would be too few.
SAMPLE_S = {"cpu": 0.25, "cuda": 1.0}


@cache
def quiet_cores() -> float:
    """Cores that others may keep busy during a sample that counts: a share of this machine's."""
    return QUIET_SHARE * len(os.sched_getaffinity(0))


@dataclass(kw_only=True)
class WorkerHandle:
    """A contestant in a group: its process, and its results so far.

    Nothing is asked of it after ``deadline`` (``time.monotonic``), and no answer awaited.
    """

    contestant: Contestant
    deadline: float = math.inf
    process: WorkerProcess | None = None
    failure: Status | None = None
    made: bool = False
    readiness: Readiness | None = None
    state: Json = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The contestant's name."""
        return self.contestant.name

    @property
    def alive(self) -> bool:
        """Whether its model was made, and its process can still be asked."""
        return self.made and self.process is not None and self.process.child.poll() is None

    @property
    def active(self) -> bool:
        """Whether it is still to be timed."""
        return self.failure is None and self.process is not None

    @property
    def status(self) -> Status:
        """Timed, not reached, or its failure."""
        return self.failure or Status(Outcome.TIMED if self.samples else Outcome.NOT_REACHED)

    def clean(self) -> list[float]:
        """Seconds of the samples that nothing disturbed."""
        return [s.seconds for s in self.samples if s.others_cores <= quiet_cores()]

    def fail(self, message: str) -> None:
        """Note why it is not timed."""
        self.failure = Status(Outcome.FAILED, message)

    def set_ready(self, readiness: Readiness) -> None:
        """Note that it is warmed up; where its parity check failed, it is not timed."""
        self.readiness = readiness
        self.failure = None if readiness.parity.ok else Status(Outcome.FAILED_PARITY)

    def merge(self, other: "WorkerHandle") -> None:
        """Take over the results of a further process of the same contestant.

        The time of the first step and the memory stay those of the first process, whose caches
        were empty; of the parity checks the worst is kept.
        """
        self.failure = self.failure or other.failure
        self.state = self.state or other.state
        self.samples += other.samples
        if self.readiness is None:
            self.readiness = other.readiness
        elif other.readiness and _strain(other.readiness.parity) > _strain(self.readiness.parity):
            self.readiness = replace(self.readiness, parity=other.readiness.parity)

    def start(self, folder: Path, caches: Path | None = None) -> WorkerProcess:
        """Start its process; raises ``BudgetSpent`` after the deadline."""
        self._require_time()
        self.process = worker_process.start(self.contestant, folder, caches)
        return self.process

    def end(self) -> None:
        """End its process, if it has one."""
        if self.process is not None:
            self.process.end()

    def ask(self, request: Request[Answer], wait_s: float = WORK_S) -> Answer:
        """Its answer; where there is none, the failure is noted and ``Failed`` raised.

        Raises ``BudgetSpent`` at the deadline, with nothing noted: it has not failed.
        """
        self._require_time()
        return self._noting(lambda process: process.ask(request, self._patience(wait_s)))

    def answer(self, request: Request[Answer], wait_s: float) -> Answer:
        """Its answer to a request that was sent; where there is none, as ``ask``."""
        return self._noting(lambda process: process.answer(request, self._patience(wait_s)))

    def ask_state(self) -> None:
        """Note the state of its process, unless a process before has given it."""
        self.state = self.state or self.ask(ReportState())

    def _patience(self, wait_s: float) -> float:
        """``wait_s``, or the time until the deadline where that is shorter."""
        return max(0.0, min(wait_s, self.deadline - time.monotonic()))

    def _require_time(self) -> None:
        """Raise ``BudgetSpent`` after the deadline, its process ended."""
        if time.monotonic() >= self.deadline:
            self.end()
            raise BudgetSpent(f"the budget ended while {self.name} was at work")

    def _noting(self, call: Callable[[WorkerProcess], Answer]) -> Answer:
        if self.process is None:
            raise RuntimeError(f"{self.name} has no process")
        try:
            return call(self.process)
        except Failed as failure:
            self._require_time()
            # The path of a checkout is left out.
            place = self.contestant.path and os.path.dirname(self.contestant.path)
            self.fail(str(failure).replace(place, "...") if place else str(failure))
            raise


def _strain(parity: Parity) -> float:
    """The worst error of a parity check over its limit; infinite where it failed."""
    return parity.error_ratio if parity.ok else math.inf


@contextmanager
def temporary_folder(workers: Sequence[WorkerHandle] = ()) -> Iterator[Path]:
    """A folder for a group's files; the processes of ``workers`` end with it."""
    with whole.temporary_folder("twingrad-bench") as folder, ending(workers):
        yield folder


@contextmanager
def ending(workers: Sequence[WorkerHandle]) -> Iterator[None]:
    """However this ends, no process of ``workers`` is left."""
    try:
        yield
    finally:
        for worker in workers:
            worker.end()


def nothing() -> None:
    """Note nothing."""


def sample_rounds(
    workers: Sequence[WorkerHandle],
    task: Task,
    *,
    wanted: int,
    until: float,
    start: int = 0,
    first: int = 0,
    least: int = LEAST,
    device: str = "cpu",
    tell: Callable[[str], None],
    clocks: Callable[[], Clocks] = dict,
    noted: Callable[[], None] = nothing,
) -> list[Clocks]:
    """Take samples of all active workers, round by round, until each has ``wanted`` clean ones.

    Ends earlier at ``until`` (``time.monotonic``), but not before round ``least``. Rounds are
    numbered from ``first`` on, which is 1 where each has given a sample before. ``noted`` is called
    after each round, so that what it measured can be written down. Returns the clocks and
    temperature before each round.
    """
    seen = []
    for turn in range(first, wanted * RETAKES):
        waiting = [worker for worker in workers if worker.active and len(worker.clean()) < wanted]
        if not waiting or (turn >= least and time.monotonic() > until):
            break
        seen.append(clocks())
        # Every contestant runs in every round, or rounds would not be comparable.
        for worker in workers:
            if worker.active:
                tell(f"round {turn + 1}, {worker.name}")
                take_sample(worker, task, start, turn, device)
        noted()
    return seen


def take_sample(
    worker: WorkerHandle, task: Task, start: int, turn: int, device: str = "cpu"
) -> None:
    """Take one sample of a worker that was warmed up; where it fails, that is noted."""
    if worker.readiness is None:
        raise RuntimeError(f"{worker.name} was not warmed up")
    steps = max(1, round(SAMPLE_S[device] / max(worker.readiness.step_s, 1e-6)))
    try:
        timed = worker.ask(TimeSteps(task, steps))
    except Failed:
        return
    sample = Sample(start=start, round=turn, seconds=timed.seconds, others_cores=timed.others_cores)
    worker.samples.append(sample)
