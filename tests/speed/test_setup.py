"""Setup of a benchmark by its options."""

import pytest

from bench.speed import setup, statistics
from bench.speed.options import BenchOptions
from bench.speed.setup import BenchSetup


@pytest.fixture
def resolved():
    """Resolves options of a call on the CPU."""

    def make(**options) -> BenchSetup:
        return setup.resolve(BenchOptions(**{"device": "cpu"} | options))

    return make


def test_where_a_budget_is_kept_each_contestant_has_one_process(resolved):
    assert resolved().starts == resolved(preset="tiny", budget="5s").starts == 1
    assert resolved(preset="tiny").starts == setup.STARTS >= statistics.STARTS
    assert resolved(preset="tiny", budget="5s", starts=3).starts == 3


def test_ceilings_are_all_measured_unless_the_call_has_nothing_else_to_say(resolved):
    assert resolved().brief
    assert not resolved(budget="5s").brief
    assert not resolved(preset="tiny").brief
    assert not resolved(workload=("train",)).brief


@pytest.mark.parametrize(
    ("names", "workloads", "ran", "left"),
    [
        ("hf", ("train", "overhead"), {"train"}, ["overhead"]),
        ("torch-ladder", ("overhead", "train", "cold"), {"train"}, ["overhead", "cold"]),
        ("jax-idiomatic", ("growth", "train"), {"train"}, ["growth"]),
        ("flax-reference", ("decode", "forward"), {"forward"}, ["decode"]),
    ],
)
def test_a_workload_without_contestants_is_left_out(resolved, names, workloads, ran, left):
    call = resolved(contestants=names, workload=workloads, preset="tiny")
    assert {workload for stage in call.stages for workload in stage.workloads} == ran
    assert list(call.left_out) == left


def test_a_call_that_nobody_takes_part_in_is_refused(resolved):
    with pytest.raises(ValueError, match="none of jax-idiomatic takes part in growth"):
        resolved(contestants="jax-idiomatic", workload=("growth",))


def test_on_cuda_the_default_is_124m_in_bfloat16(resolved, monkeypatch):
    monkeypatch.setattr(setup, "pick_device", lambda device: "cuda")
    call = resolved()
    assert (call.preset, call.dtype, call.budget) == ("124m", "bfloat16", None)


def test_only_a_call_without_arguments_has_a_budget_of_its_own(resolved):
    assert resolved().budget == setup.DEFAULT_BUDGET
    assert resolved(preset="tiny").budget is None
    assert resolved(preset="tiny", budget="5s").budget == 5.0
