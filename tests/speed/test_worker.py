"""The memory that a worker reports."""

from bench.speed import worker
from bench.speed.messages import Peak, Ready, Task
from bench.speed.reference import Judged


def test_memory_is_of_what_ran_before_the_reference_was_read(monkeypatch):
    one, ready = worker.Worker(), Ready(Task("train"))
    monkeypatch.setattr(one, "_call", lambda *_: lambda: None)
    monkeypatch.setattr(one, "_peak", lambda: Peak(1))
    monkeypatch.setattr(one, "_judged", lambda *_: [Judged("a", 0.0, 1.0, True)])
    assert [one.ready(ready).peak for _ in range(2)] == [Peak(1), Peak()]
