"""Contestants, and what tells them apart."""

import json
from dataclasses import asdict
from itertools import pairwise

import pytest

from bench.harness import frameworks
from bench.speed import contestants

each_framework = pytest.mark.parametrize("framework", frameworks.NAMES)


devices = pytest.mark.parametrize("device", ["cpu", "cuda"])


@each_framework
@devices
def test_every_rung_changes_exactly_one_setting(framework, device):
    rungs = [asdict(one.settings) for one in contestants.ladder(framework, device)]
    for before, after in pairwise(rungs):
        changed = [name for name in before if before[name] != after[name]]
        assert len(changed) == 1, changed


def test_on_cuda_pytorchs_ladder_ends_with_graphs():
    *others, last = contestants.ladder("torch", "cuda")
    assert last.settings.graphs
    assert not any(one.settings.graphs for one in others)
    assert not any(one.settings.graphs for one in contestants.ladder("torch", "cpu"))


def test_on_cuda_jaxs_ladder_ends_with_flags_of_its_compiler_and_several_steps_a_program():
    rungs = contestants.ladder("jax", "cuda")
    flags = [one.settings.xla_flags for one in rungs]
    assert all(flag.startswith("--xla_gpu_") for flag in flags[-4:])
    assert not any(flags[:-4])
    assert len(set(flags[-4:-1])) == 3
    assert flags[-1] == flags[-2]
    assert [one.environment()["XLA_FLAGS"] for one in rungs[-4:]] == flags[-4:]
    assert [one.settings.dispatch for one in rungs] == [1] * (len(rungs) - 1) + [8]


@devices
def test_no_trainer_says_that_it_replays_graphs(device):
    trainers = [one for one in contestants.built_in(device) if one.tier in ("tuned", "lean")]
    assert not any(one.settings.graphs for one in trainers)


@devices
def test_names_of_contestants_are_unique(device):
    everybody = [
        *contestants.built_in(device),
        *contestants.ladder("torch", device),
        *contestants.ladder("jax", device),
    ]
    names = [one.name for one in everybody]
    assert len(set(names)) == len(names)


@each_framework
def test_tuned_contestants_keep_their_memory_and_idiomatic_ones_run_at_defaults(framework):
    rows = {one.name: one for one in contestants.built_in("cpu")}
    tuned = rows[f"{framework}-tuned"].environment()
    assert any(name.startswith("MALLOC_") for name in tuned)
    assert rows[f"{framework}-idiomatic"].environment() == {}


def test_a_family_is_all_its_members_and_a_member_is_one():
    chosen = contestants.choose(["torch", "jax-tuned"], "cpu", [])
    assert {one.name for one in chosen} == {"torch-idiomatic", "torch-tuned", "jax-tuned"}


def test_a_peers_record_does_not_hold_its_path(tmp_path):
    (tmp_path / "mine.py").write_text("class Racer: ...\n")
    found = contestants.peers({"mine": tmp_path / "mine.py"})
    assert [one.name for one in found] == ["mine", "mine-tuned"]
    for one in found:
        assert str(tmp_path) in str(one.path)
        assert str(tmp_path) not in json.dumps(one.described())
