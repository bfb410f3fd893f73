"""Sample rounds, of contestants that only look like processes."""

import math
import time
from dataclasses import replace

import pytest

from bench.speed import scheduler
from bench.speed.contestants import Contestant
from bench.speed.messages import Task, Timed
from bench.speed.results import Outcome, Sample, Status
from bench.speed.scheduler import WorkerHandle
from bench.speed.worker_process import Failed


class Fake:
    """Answers from a list, whose last is repeated; what is an exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def ask(self, request, wait_s):
        self.asked.append(request.steps)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Timed(1.0, answer)


@pytest.fixture
def handle(readiness):
    """Makes a contestant that only looks like a process."""

    def make(name: str, *answers) -> WorkerHandle:
        contestant = Contestant(name=name, framework="torch")
        ready = readiness(step_s=0.01)
        return WorkerHandle(contestant=contestant, process=Fake(*answers), readiness=ready)

    return make


def _rounds(workers, wanted=3, until=math.inf):
    told = []
    task = Task("train")
    seen = scheduler.sample_rounds(workers, task, wanted=wanted, until=until, tell=told.append)
    return told, seen


def test_contestants_are_asked_in_turn_round_by_round(handle):
    told, seen = _rounds([handle("a", 0.0), handle("b", 0.0)], wanted=2)
    assert told == ["round 1, a", "round 1, b", "round 2, a", "round 2, b"]
    assert len(seen) == 2


def test_a_sample_takes_as_many_steps_as_fill_its_time(handle):
    worker = handle("a", 0.0)
    _rounds([worker], wanted=1)
    assert worker.process.asked == [round(scheduler.SAMPLE_S["cpu"] / 0.01)]


def test_on_a_gpu_a_sample_is_of_more_steps(handle):
    worker = handle("a", 0.0)
    scheduler.take_sample(worker, Task("train"), 0, 0, "cuda")
    assert worker.process.asked == [100]


@pytest.mark.parametrize(("cores", "quiet"), [(1, 0.05), (2, 0.1), (16, 0.8)])
def test_the_more_cores_the_more_may_others_use(monkeypatch, cores, quiet):
    monkeypatch.setattr(scheduler.os, "sched_getaffinity", lambda process: set(range(cores)))
    assert scheduler.quiet_cores.__wrapped__() == pytest.approx(quiet)


def test_after_every_round_what_was_measured_can_be_noted(handle):
    worker, counts = handle("a", 0.0), []
    scheduler.sample_rounds(
        [worker],
        Task("train"),
        wanted=3,
        until=math.inf,
        tell=lambda text: None,
        noted=lambda: counts.append(len(worker.samples)),
    )
    assert counts == [1, 2, 3]


def test_a_disturbed_sample_is_taken_again_by_everybody(handle):
    calm, disturbed = handle("calm", 0.0), handle("disturbed", 0.9, 0.0)
    _rounds([calm, disturbed])
    assert len(disturbed.clean()) == 3
    assert [sample.round for sample in calm.samples] == [0, 1, 2, 3]
    assert [sample.round for sample in disturbed.samples] == [0, 1, 2, 3]


def test_what_is_always_disturbed_ends_all_the_same(handle):
    worker = handle("a", 0.9)
    _rounds([worker])
    assert len(worker.samples) == 3 * scheduler.RETAKES
    assert worker.clean() == []


def test_time_that_is_up_ends_the_rounds_after_as_many_rounds_as_a_spread_needs(handle):
    workers = [handle("a", 0.0), handle("b", 0.0)]
    _rounds(workers, wanted=9, until=time.monotonic() - 1)
    assert [len(worker.samples) for worker in workers] == [scheduler.LEAST, scheduler.LEAST]


def test_the_others_go_on_when_one_fails(handle):
    good, bad = handle("good", 0.0), handle("bad", 0.0, Failed("hung: no answer"))
    _rounds([bad, good])
    assert bad.failure == Status(Outcome.FAILED, "hung: no answer")
    assert len(bad.process.asked) == 2
    assert len(good.samples) == 3


def test_the_results_of_a_further_process_are_taken_over(handle, readiness):
    kept, sample = handle("a"), Sample(round=0, seconds=1.0, others_cores=0.0)
    kept.readiness = None
    for further in (
        WorkerHandle(
            contestant=kept.contestant, readiness=readiness(1.0, first_s=9.0), samples=[sample]
        ),
        WorkerHandle(contestant=kept.contestant, readiness=readiness(1.0, first_s=2.0)),
        WorkerHandle(contestant=kept.contestant, readiness=readiness(3.0, first_s=2.0)),
        WorkerHandle(contestant=kept.contestant, samples=[replace(sample, start=3)]),
    ):
        kept.merge(further)
    assert kept.failure is None
    assert kept.readiness == readiness(3.0, first_s=9.0)
    assert [one.start for one in kept.samples] == [0, 3]


def test_what_fails_in_a_further_process_has_failed(handle, readiness):
    kept = handle("a")
    kept.readiness = readiness(1.0)
    further = WorkerHandle(contestant=kept.contestant)
    further.set_ready(readiness(0.5, ok=False))
    kept.merge(further)
    assert kept.failure == Status(Outcome.FAILED_PARITY)
    assert kept.readiness == readiness(0.5, ok=False)


def test_one_that_failed_before_is_not_asked(handle):
    worker = handle("a", 0.0)
    worker.failure = Status(Outcome.FAILED_PARITY)
    _rounds([worker])
    assert worker.process.asked == []
