"""The memory that a worker reports, and the steps that it takes in one program."""

from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest

from bench.speed import worker
from bench.speed.contestants import Settings, alone
from bench.speed.messages import Peak, Ready, Task, TimeSteps
from bench.speed.reference import Judged


def test_memory_is_of_what_ran_before_the_reference_was_read(monkeypatch):
    one, ready = worker.Worker(), Ready(Task("train"))
    monkeypatch.setattr(one, "_at_once", lambda _: 1)
    monkeypatch.setattr(one, "_call", lambda *_: lambda: None)
    monkeypatch.setattr(one, "_peak", lambda: Peak(1))
    monkeypatch.setattr(one, "_judged", lambda *_: [Judged("a", 0.0, 1.0, True)])
    assert [one.ready(ready).peak for _ in range(2)] == [Peak(1), Peak()]


class _Several:
    """A backend that notes the batches of each call."""

    def __init__(self):
        self.calls = []

    def train(self, batch):
        self.calls.append([batch])
        return 0.5

    def train_several(self, batches):
        self.calls.append(batches)
        return [0.5] * len(batches)

    def wait(self, loss):
        return loss


@pytest.mark.parametrize(
    ("dispatch", "workload", "calls"),
    [(1, "train", [1] * 5), (4, "train", [4, 4]), (4, "overhead", [1] * 5)],
)
def test_steps_of_one_program_are_taken_together_and_counted_as_steps(
    monkeypatch, dispatch, workload, calls
):
    one = worker.Worker()
    contestant = replace(alone("jax"), settings=Settings(dispatch=dispatch))
    one.job = SimpleNamespace(contestant=contestant)
    one.backend, one.stream = _Several(), cycle(range(3))
    monkeypatch.setattr(worker, "_seconds", lambda call: call() and 12.0)
    timed = one.time(TimeSteps(Task(workload), 5))
    assert [len(batches) for batches in one.backend.calls] == calls
    assert [n for batches in one.backend.calls for n in batches] == [
        n % 3 for n in range(sum(calls))
    ]
    assert timed.seconds == 12.0 / sum(calls)


def test_a_step_of_one_program_and_what_was_compiled_for_it_are_told_apart(monkeypatch):
    one, seconds = worker.Worker(), iter([30.0, 8.0, 8.5])
    monkeypatch.setattr(one, "_at_once", lambda _: 4)
    monkeypatch.setattr(one, "_call", lambda *_: None)
    monkeypatch.setattr(one, "_peak", lambda: Peak(1))
    monkeypatch.setattr(one, "_judged", lambda *_: [Judged("a", 0.0, 1.0, True)])
    monkeypatch.setattr(worker, "_seconds", lambda _: next(seconds))
    ready = one.ready(Ready(Task("train")))
    assert (ready.first_s, ready.step_s) == (22.0 + 2.0, 2.0)


def test_steps_of_one_program_are_judged_beside_single_ones(monkeypatch):
    one = worker.Worker()
    one.job = SimpleNamespace(contestant=replace(alone("jax"), settings=Settings(dispatch=4)))
    one.params, one.batches = "params", ["first", "second", "third"]
    one.judge = SimpleNamespace(losses=list, gradients=lambda values, clipped: [values, clipped])
    one.backend = SimpleNamespace(
        reset=lambda params: None,
        first_step=lambda batch: (f"loss of the {batch}", "gradients", True),
        train=lambda batch: f"loss of the {batch}",
        train_several=lambda batches: [f"loss of the {batch} of four" for batch in batches],
        wait=lambda loss: loss,
    )
    monkeypatch.setattr(worker, "load_file", lambda path: {})
    assert one._judged(Task("train")) == [
        *("loss of the first", "loss of the second", "gradients", True),
        *("loss of the first of four", "loss of the second of four"),
    ]
