"""Speed of a pair: turns and samples, verdicts, and what is said of what cannot be timed."""

import json
import math
from itertools import pairwise

import pytest

from twingrad.cli.main import main
from twingrad.timing import rounds, worker
from twingrad.timing.command import Benchmark, PairBenchOptions, as_object, seconds
from twingrad.timing.rounds import Failed, Ready, Task, Timed

EAGER, COMPILED = (Task("torch", mode, "forward") for mode in rounds.MODES)


def test_contestants_of_a_workload_stand_together_and_a_step_needs_both_optimizers():
    plain = rounds.tasks(rounds.MODES, has_optimizers=False)
    assert [task.workload for task in plain] == ["forward"] * 4 + ["forward and backward"] * 4
    assert plain[0].framework != plain[1].framework
    assert len(rounds.tasks(("eager",), has_optimizers=True)) == 6


def test_samples_are_taken_in_turn_and_nobody_always_follows_the_same():
    taken = []

    def sample(task, steps):
        taken.append(task)
        return 0.5

    tasks = rounds.tasks(rounds.MODES, has_optimizers=False)[:4]
    results = rounds.measure(
        tasks, lambda task: Ready(1.0, 0.01, 2.0), sample, 8, lambda text: None
    )
    assert [len(timed.samples_s) for timed in results] == [8] * 4
    turns = [taken[4 * n : 4 * n + 4] for n in range(8)]
    assert all(set(turn) == set(tasks) for turn in turns)
    before = {(a, b) for turn in turns for a, b in pairwise(turn)}
    assert len(before) > 4
    assert {turn[0] for turn in turns} == set(tasks)


def test_what_cannot_be_warmed_up_is_not_sampled():
    ready = {EAGER: Ready(1.0, 1.0, 2.0), COMPILED: Failed("no compiler")}
    sampled = []
    results = rounds.measure(
        [EAGER, COMPILED], ready.get, lambda task, n: sampled.append(task) or 1.0, 3, print
    )
    assert set(sampled) == {EAGER}
    assert results[1].samples_s == []


@pytest.mark.parametrize(("step_s", "steps"), [(1.0, 1), (0.03, 4), (1e-7, 1000), (0.0, 1000)])
def test_a_short_step_is_repeated_within_a_sample(step_s, steps):
    assert Timed(task=EAGER, ready=Ready(1.0, step_s, 0.0)).steps == steps


def _benchmark(loss=2.0, equal=True, failed=False):
    first = Timed(task=EAGER, ready=Ready(1.0, 0.1, 2.0), samples_s=[1.0, 2.0, 3.0])
    ready = Failed("no compiler") if failed else Ready(1.0, 0.1, loss)
    samples = [] if failed else [1.0, 2.0, 9.0]
    second = Timed(task=COMPILED, ready=ready, samples_s=samples)
    return Benchmark(
        name="pair", dtype="float32", equal=equal, results=[first, second], facts={"threads": 2}
    )


@pytest.mark.parametrize(
    ("changed", "verdicts", "ok"),
    [
        ({}, ["equal", "equal"], True),
        ({"loss": 2.0 * (1 + 1e-6)}, ["equal", "equal"], True),
        ({"loss": 2.001}, ["equal", "differs"], False),
        ({"loss": math.nan}, ["equal", "differs"], False),
        ({"equal": False}, ["differs", "differs"], False),
        ({"failed": True}, ["equal", ""], True),
    ],
)
def test_a_row_is_equal_where_the_pair_is_and_its_own_loss(changed, verdicts, ok):
    benchmark = _benchmark(**changed)
    assert [benchmark.verdict(timed) for timed in benchmark.results] == verdicts
    assert benchmark.ok is ok


def test_the_record_has_every_sample_and_the_reason_of_what_failed():
    rows = as_object(_benchmark())["results"]
    assert rows[1]["samples_s"] == [1.0, 2.0, 9.0]
    assert (rows[1]["median_s"], rows[1]["quartile_high_s"]) == (2.0, 5.5)
    assert rows[1]["parity"] == "equal"
    failed = as_object(_benchmark(failed=True))["results"][1]
    assert failed["status"] == "failed"
    assert failed["reason"] == "no compiler"
    json.dumps(as_object(_benchmark(loss=math.nan)), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "said"),
    [(2.5, "2.5 s"), (0.1234, "123 ms"), (2.4e-5, "24 µs"), (3e-9, "3 ns")],
)
def test_times_are_said_in_the_unit_that_suits_them(value, said):
    assert seconds(value) == said


class _Calls:
    """Calls whose compiled step fails as a missing compiler makes it."""

    def step(self, mode, workload):
        if mode == "compiled":
            raise RuntimeError("no C++ compiler\nwas found")
        return lambda: 1.5


def test_a_step_that_fails_is_told_in_one_sentence():
    steps = {}
    ready = worker._answer(_Calls(), steps, EAGER, 0)
    assert ready.loss == 1.5
    assert worker._answer(_Calls(), steps, EAGER, 10) >= 0
    failed = worker._answer(_Calls(), steps, COMPILED, 0)
    assert failed.reason.startswith("RuntimeError: no C++ compiler (")
    assert "was found" not in failed.reason


def test_steps_of_another_workload_are_dropped():
    steps = {}
    worker._answer(_Calls(), steps, EAGER, 0)
    worker._answer(_Calls(), steps, Task("torch", "eager", "training step"), 0)
    assert [task.workload for task in steps] == ["training step"]


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="--samples is 1"):
        PairBenchOptions(samples=1)
    with pytest.raises(ValueError, match="unknown mode 'fast': choose from eager, compiled"):
        PairBenchOptions(modes=("fast",))


PAIR = """
import numpy as np
import optax
import torch
from flax import nnx
from twingrad import Pair

pair = Pair(
    torch=lambda: torch.nn.Linear(4, 2),
    jax=lambda: nnx.Linear(4, 2, rngs=nnx.Rngs(0)),
    torch_loss=lambda model, x: (model(x) ** 2).mean(),
    jax_loss=lambda model, x: FACTOR * (model(x) ** 2).mean(),
    batch=[np.random.default_rng(0).normal(size=(8, 4))],
    torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    jax_optimizer=optax.sgd(0.1),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "status"), [("1", 0), ("2", 1)])
def test_a_pair_is_timed_and_checked(factor, status, tmp_path, capsys):
    for framework in ("torch", "jax"):
        pytest.importorskip(framework)
    (tmp_path / "p.py").write_text(PAIR.replace("FACTOR", factor))
    words = ["bench", str(tmp_path / "p.py"), "--modes", "eager", "--samples", "3"]
    assert main([*words, "--json", str(tmp_path / "speed.json")]) == status
    record = json.loads((tmp_path / "speed.json").read_text())
    assert record["ok"] is (status == 0)
    assert {(row["workload"], row["framework"]) for row in record["results"]} == {
        (workload, framework) for workload in rounds.WORKLOADS for framework in rounds.FRAMEWORKS
    }
    for row in record["results"]:
        assert len(row["samples_s"]) == 3
        assert 0 < row["quartile_low_s"] <= row["median_s"] <= row["quartile_high_s"]
        assert row["parity"] == ("equal" if status == 0 else "differs")
    said = capsys.readouterr().out  # a narrow terminal folds the name of a workload
    assert "training step" in " ".join(said.split()) or {"training", "step"} <= set(said.split())


def test_a_pair_that_cannot_be_made_is_refused_as_by_compare(tmp_path, capsys):
    for framework in ("torch", "jax"):
        pytest.importorskip(framework)
    (tmp_path / "p.py").write_text("def width():\n    return {}['lost']\n\npair = width()\n")
    assert main(["bench", str(tmp_path / "p.py")]) == 2
    sentence, *frames = capsys.readouterr().err.splitlines()
    assert "KeyError: 'lost'" in sentence
    assert len(frames) == 2
