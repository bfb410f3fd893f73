"""One benchmark without processes: its budget, its stages, and what an interruption leaves."""

import json
import math
from dataclasses import replace

import pytest

from bench.harness import machine
from bench.speed import benchmark, cold_start, record, stage_run, worker_process, workloads
from bench.speed.benchmark import Bench
from bench.speed.results import Sample, SkipReason
from bench.speed.scheduler import WorkerHandle
from bench.speed.stage_files import StageFiles
from bench.speed.stage_run import StageRun
from bench.speed.workloads import Stage
from twingrad.terminal import silent


@pytest.fixture
def taking(monkeypatch):
    """Runs a call whose every stage takes so many seconds; those that were run."""

    def measure(call: Bench, seconds: float) -> list[Stage]:
        ran: list[Stage] = []
        monkeypatch.setattr(call, "_measure_ceilings", lambda: None)
        monkeypatch.setattr(call, "_measure_stage", lambda stage, until: ran.append(stage))
        monkeypatch.setattr(call, "elapsed", lambda: seconds * len(ran))
        call.measure()
        return ran

    return measure


def test_a_spent_budget_skips_later_stages_and_the_record_says_so(bench, taking):
    call = bench(workload=("train", "overhead"), preset="tiny", budget="100s")
    first, *later = call.setup.stages
    assert taking(call, 95.0) == [first]
    skipped = call.record().skipped
    assert [one.stage for one in skipped] == [stage.title for stage in later]
    assert all("budget of 100 s" in one.why for one in skipped)


def test_what_one_workload_took_says_nothing_of_another(bench, taking):
    call = bench(workload=("train", "cold"), preset="tiny", budget="100s")
    assert [stage.workloads for stage in taking(call, 60.0)] == [("train",), ("cold",)]


def test_a_stage_that_one_like_it_shows_to_take_too_long_is_skipped(bench, taking):
    call = bench(workload=("overhead",), budget="100s")
    first, second = call.setup.stages
    assert taking(call, 60.0) == [first]
    assert [one.stage for one in call.record().skipped] == [second.title]


def test_a_workload_without_contestants_is_in_the_record(bench):
    call = bench(contestants="hf", workload=("train", "overhead"), preset="tiny")
    assert [one.stage for one in call.record().skipped] == ["overhead"]


@pytest.fixture
def without_reference(monkeypatch):
    monkeypatch.setattr(Bench, "_measure_ceilings", lambda self: None)
    monkeypatch.setattr(StageFiles, "compute_reference", lambda *_, **__: "")


def test_a_reference_that_fails_is_no_success(bench, monkeypatch):
    call = bench(workload=("train",), preset="tiny")
    monkeypatch.setattr(call, "_measure_ceilings", lambda: None)

    def fail(*_, **__):
        raise worker_process.Failed("out of memory")

    monkeypatch.setattr(WorkerHandle, "ask", fail)
    call.measure()
    measured = call.record()
    assert [one.reason for one in measured.skipped] == [SkipReason.REFERENCE_FAILED]
    assert "out of memory" in measured.skipped[0].why
    row = record.load("speed-growth-cpu").results[0]
    assert replace(measured, results=(row,), skipped=()).ok
    assert not replace(measured, results=(row,)).ok


def test_ctrl_c_in_a_later_round_keeps_the_samples_of_earlier_ones(
    bench, monkeypatch, without_reference, readiness
):
    call = bench(workload=("train",), contestants="torch-tuned,jax-tuned", preset="tiny")

    def measure_group(self, part, files, group, workers, until):
        for worker in workers:
            worker.readiness = readiness()
            worker.state = {"settings": {}, "versions": {}, "libraries": []}
            for turn in range(3):
                seconds = 1.0 + turn + len(worker.name) / 100
                worker.samples.append(
                    Sample(start=part.number, round=turn, seconds=seconds, others_cores=0.0)
                )
            if part.number:
                raise KeyboardInterrupt

    monkeypatch.setattr(StageRun, "_make", lambda *_: None)
    monkeypatch.setattr(StageRun, "_measure_group", measure_group)
    with pytest.raises(KeyboardInterrupt):
        call.measure()
    found = json.loads(json.dumps(call.record().to_json()))
    starts = [[sample["start"] for sample in row["samples"]] for row in found["results"]]
    # The one that goes first the second time had just been timed.
    assert starts == [[0, 0, 0], [0, 0, 0, 1, 1, 1]]
    assert len(found["ratios"]) == 1
    found["seconds"] = 60.0  # the samples were not really taken
    assert list(record.problems(found)) == []


def test_ctrl_c_among_cold_starts_keeps_those_before(
    bench, monkeypatch, without_reference, readiness
):
    call = bench(workload=("cold",), contestants="jax-tuned", preset="tiny")

    def start_cold(worker, files, turn):
        if turn == 2:
            raise KeyboardInterrupt
        worker.samples.append(Sample(start=turn, round=turn, seconds=1.0 + turn, others_cores=0.0))
        worker.readiness = readiness(step_s=2.0)

    monkeypatch.setattr(cold_start, "start_cold", start_cold)
    with pytest.raises(KeyboardInterrupt):
        call.measure()
    counts = {row.variant: len(row.samples) for row in call.record().results}
    assert counts == {"empty cache": 2, "filled cache": 2}


def test_a_record_of_cold_starts_holds(bench, monkeypatch, without_reference, readiness):
    call = bench(workload=("cold",), contestants="torch-tuned,jax-tuned", preset="tiny")
    seconds = iter(range(3, 99))

    def start_cold(worker, files, turn):
        took = float(next(seconds))
        further = WorkerHandle(contestant=worker.contestant)
        further.set_ready(readiness(first_s=took, step_s=took))
        further.state = {"settings": {}, "versions": {}, "libraries": []}
        further.samples.append(Sample(start=turn, round=turn, seconds=took, others_cores=0.0))
        worker.merge(further)

    monkeypatch.setattr(cold_start, "start_cold", start_cold)
    call.measure()
    found = json.loads(json.dumps(call.record().to_json()))
    found["seconds"] = 999.0  # the samples were not really taken
    assert list(record.problems(found)) == []
    found["results"][0] |= {"first_s": 4.5, "step_s": 4.5}
    [problem] = record.problems(found)
    assert "first_s and step_s are not its first start" in problem


def test_a_machine_that_stood_still_in_the_warm_up_leaves_a_record_that_holds(
    bench, monkeypatch, without_reference, readiness
):
    call = bench(workload=("train",), contestants="torch-tuned,jax-tuned", preset="tiny", starts=1)
    quick = iter(0.01 + number / 1000 for number in range(999))

    def measure_group(self, part, files, group, workers, until):
        for worker in workers:
            worker.set_ready(readiness(first_s=9.0, step_s=2.0))
            worker.state = {"settings": {}, "versions": {}, "libraries": []}
            worker.samples += [
                Sample(start=0, round=turn, seconds=next(quick), others_cores=0.0)
                for turn in range(5)
            ]

    monkeypatch.setattr(StageRun, "_make", lambda *_: None)
    monkeypatch.setattr(StageRun, "_measure_group", measure_group)
    call.measure()
    found = json.loads(json.dumps(call.record().to_json()))
    found["seconds"] = 999.0  # the samples were not really taken
    assert list(record.problems(found)) == []
    for row in found["results"]:
        assert row["step_s"] == min(sample["seconds"] for sample in row["samples"])


def test_contestants_that_do_not_fit_into_memory_are_timed_in_groups(bench, monkeypatch):
    [stage] = bench(workload=("train",), preset="tiny").setup.stages
    assert list(benchmark.groups(stage, "cpu", "float32")) == [stage]
    monkeypatch.setattr(machine, "free_memory", lambda device: 0.0)
    parts = [group.contestants for group in benchmark.groups(stage, "cpu", "float32")]
    first, *others = stage.contestants
    assert parts == [(first, other) for other in others]


def test_as_many_contestants_as_fit_into_memory_are_timed_together(bench, monkeypatch):
    [stage] = bench(workload=("train",), preset="tiny").setup.stages
    needs = [workloads.memory_bytes(stage, one, "float32") for one in stage.contestants]
    # Of four, the first with two others fit: the last one is timed with the first alone.
    room = sum(needs[:3]) / benchmark.MEMORY_SHARE + 1
    monkeypatch.setattr(machine, "free_memory", lambda device: room)
    parts = [group.contestants for group in benchmark.groups(stage, "cpu", "float32")]
    one, two, three, four = stage.contestants
    assert parts == [(one, two, three), (one, four)]


def test_one_that_dies_while_others_have_their_turn_has_failed(
    start, tmp_path, bench, train, monkeypatch
):
    worker = start("return 1.0")
    train(worker)
    worker.made = True
    assert worker.alive
    worker.process.end()
    call = bench(workload=("train",), preset="tiny")
    [stage] = call.setup.stages
    run = StageRun(call.setup, stage, silent, tmp_path)
    part = stage_run.ProcessRound(stage=stage, number=0, of=1)
    files = StageFiles(call.setup, stage, tmp_path, silent, tmp_path)
    run._measure_group(part, files, run.groups[0], [worker], until=math.inf)
    assert worker.failure.text == "died while others had their turn"
    assert worker.samples == []
