"""A budget is a promise: whatever still runs at its end is ended, and the record says so."""

import io
import multiprocessing
import time

import pytest
from rich.console import Console

from bench.speed import record, scheduler, tables
from bench.speed.benchmark import Bench
from bench.speed.messages import Peak, Readiness, Task
from bench.speed.results import Sample, SkipReason
from bench.speed.scheduler import WorkerHandle, sample_rounds
from bench.speed.stage_files import StageFiles
from bench.speed.stage_run import ProcessRound, StageRun
from bench.speed.worker_process import BudgetSpent
from tests.helpers.running import any_runs


def test_a_worker_that_runs_past_the_deadline_is_ended_and_has_not_failed(start, train):
    worker = start("time.sleep(1000)")
    worker.deadline = time.monotonic() + 5
    with pytest.raises(BudgetSpent, match="fake was at work"):
        train(worker)
    assert worker.process.child.returncode == -9
    assert worker.failure is None


def test_nothing_is_asked_or_started_after_the_deadline(start):
    worker = start("return 1.0")
    worker.deadline = time.monotonic()
    for call in (worker.ask_state, lambda: worker.start(worker.process.errors.parent)):
        with pytest.raises(BudgetSpent):
            call()


@pytest.mark.slow
def test_samples_from_before_the_deadline_are_kept(start, train, parity):
    worker = start("time.sleep(time.monotonic() > float(os.environ['SLOW_FROM']) and 1000)")
    pytest.importorskip("torch")
    worker.end()
    slow_from = time.monotonic() + 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOW_FROM", str(slow_from))
        worker.start(worker.process.errors.parent)
    train(worker)
    worker.readiness = Readiness(first_s=1.0, step_s=0.25, peak=Peak(), parity=parity(1.0))
    worker.deadline = slow_from + 1
    with pytest.raises(BudgetSpent):
        sample_rounds([worker], Task("train"), wanted=10**6, until=0, least=10**6, tell=print)
    assert worker.samples


@pytest.fixture
def hanging(monkeypatch):
    """Has every request hang until the deadline of its worker."""

    def ask(worker, *_):
        time.sleep(max(0.0, worker.deadline - time.monotonic()))
        worker._require_time()

    monkeypatch.setattr(WorkerHandle, "ask", ask)
    monkeypatch.setattr(WorkerHandle, "start", lambda *_: None)


@pytest.mark.slow("overhead", "cold")
@pytest.mark.parametrize("workload", ["train", "cold", "overhead"])
def test_no_stage_goes_on_when_the_budget_has_ended(bench, hanging, workload):
    call = bench(workload=(workload,), preset="tiny", budget="2s")
    call.measure()
    assert call.left() > -5
    skipped = call.record().skipped
    assert {one.stage for one in skipped} >= {stage.title for stage in call.setup.stages}
    assert {one.reason for one in skipped} == {SkipReason.BUDGET}
    assert any("the budget ended" in one.why for one in skipped)


def test_a_budget_in_which_nothing_was_timed_is_said_to_be_too_short(bench, hanging):
    call = bench(workload=("train",), preset="tiny", budget="2s")
    call.measure()
    console = Console(file=io.StringIO(), width=200)
    tables.show(console, call.record())
    said = "Nothing was timed within the budget: give a longer --budget"
    assert said in console.file.getvalue()


@pytest.fixture
def warming(monkeypatch, readiness):
    """Has warming up take so many seconds, and a sample none; the names of those warmed up."""
    warmed: list[str] = []

    def run(call: Bench, seconds: float, failing: str = "") -> StageRun:
        clock = [call.started]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(scheduler, "take_sample", _sampled)
        run = StageRun(call.setup, call.setup.stages[0], print, "", call.deadline)

        def warm_up(self, worker, *_):
            clock[0] += seconds
            if clock[0] >= worker.deadline:
                raise BudgetSpent("the budget ended")
            warmed.append(worker.name)
            worker.set_ready(readiness(step_s=0.1))

        monkeypatch.setattr(StageRun, "_warm_up", warm_up)
        group = run.groups[0]
        workers = [WorkerHandle(contestant=one, process=object()) for one in call.setup.contestants]
        run._active[group.title] = workers
        part = ProcessRound(stage=call.setup.stages[0], number=0, of=1)
        run.spent = run._warm_up_in_turn(part, workers, Task("train"), None, "train")
        run.warmed = warmed
        return run

    return run


def _sampled(worker, task, start, turn, device):
    worker.samples.append(Sample(start=start, round=turn, seconds=0.1, others_cores=0.0))


def test_nobody_is_warmed_up_when_no_time_would_be_left_to_take_samples(bench, warming):
    call = bench(workload=("train",), preset="tiny", budget="100s")
    run = warming(call, 40.0)
    # The third would end after 120 s, by what the first two took.
    assert run.warmed == [one.name for one in call.setup.contestants[:2]]
    assert "no time was left" in str(run.spent)


def test_each_has_a_sample_as_soon_as_it_is_warm_where_there_is_a_budget(bench, warming):
    call = bench(workload=("train",), preset="tiny", budget="1000s")
    run = warming(call, 1.0)
    [group] = run.measured()
    assert [len(worker.samples) for worker in group.workers.values()] == [1] * 4
    assert run.spent is None


@pytest.mark.parametrize("budget", [None, "1000s"])
def test_a_contestant_has_one_sample_of_a_round(bench, monkeypatch, readiness, budget):
    call = bench(workload=("train",), preset="tiny", budget=budget)
    monkeypatch.setattr(scheduler, "take_sample", _sampled)
    monkeypatch.setattr(
        StageRun, "_warm_up", lambda _, worker, *rest: worker.set_ready(readiness(step_s=0.1))
    )
    stage = call.setup.stages[0]
    run = StageRun(call.setup, stage, lambda *_, **__: None, "", call.deadline)
    workers = [WorkerHandle(contestant=one, process=object()) for one in call.setup.contestants]
    part = ProcessRound(stage=stage, number=0, of=1)
    run._measure_group(part, None, run.groups[0], workers, time.monotonic() + 60)
    for worker in workers:
        rounds = [sample.round for sample in worker.samples]
        assert rounds == [*range(call.setup.options.samples)], worker.name


def test_one_that_takes_too_long_to_warm_up_leaves_the_others_time_for_samples(bench, warming):
    call = bench(workload=("train",), preset="tiny", budget="100s")
    slow = iter([1.0, 98.0])
    run = warming(call, _Next(slow))
    assert run.warmed == [call.setup.contestants[0].name]
    assert str(run.spent) == "the budget ended"
    assert [worker.readiness is None for worker in run._active["train"]] == [
        False,
        True,
        True,
        True,
    ]


class _Next:
    """A number that is another one each time it is added."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __radd__(self, other):
        return other + next(self.numbers)


def test_ceilings_leave_the_most_of_a_budget_to_stages(bench, hanging, monkeypatch):
    monkeypatch.setattr(Bench, "_measure_stage", lambda *_: None)
    call = bench(workload=("train",), preset="tiny", budget="4s")
    call.measure()
    assert 1 <= call.elapsed() < 3
    assert [one.stage for one in call.skipped] == ["other ceilings"]


def test_every_process_of_a_stage_knows_the_deadline(bench, monkeypatch):
    call = bench(workload=("train",), preset="tiny", budget="100s")
    seen = []
    monkeypatch.setattr(Bench, "_measure_ceilings", lambda self: None)
    monkeypatch.setattr(StageFiles, "write", lambda files: seen.append(files.deadline))
    monkeypatch.setattr(
        StageRun,
        "_make",
        lambda run, part, files, workers: seen.extend(w.deadline for w in workers),
    )
    monkeypatch.setattr(StageRun, "_measure_group", lambda *_: None)
    call.measure()
    assert len(seen) > 2
    assert set(seen) == {call.deadline}


def _spin():
    while True:
        pass


@pytest.mark.slow
def test_a_small_budget_holds_on_a_loaded_machine(bench):
    others = [multiprocessing.get_context("spawn").Process(target=_spin) for _ in range(4)]
    for other in others:
        other.start()
    try:
        call = bench(workload=("train", "forward"), preset="tiny", budget="15s")
        call.measure()
    finally:
        for other in others:
            other.kill()
    # Half as much again is for ending processes and writing the record on a machine this busy.
    assert call.elapsed() < 1.5 * 15
    measured = call.record()
    finished = {row.workload for row in measured.results if row.timing}
    assert measured.skipped or finished == {"train", "forward"}
    assert list(record.problems(measured.to_json())) == [] or not measured.results
    assert not any_runs([str(other.pid) for other in others], 5)
