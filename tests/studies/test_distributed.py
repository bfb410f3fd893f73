"""Runs of several processes: the same losses, gradients and weights as the run of one.

Real processes on this machine, in float64. ``processes.py`` is one in which something is wrong.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.studies import distributed, distributed_worker
from bench.studies.distributed import ALONE, LIMITS
from shared.params import gpt2_shapes
from shared.safetensors_io import write_safetensors
from shared.train_state import PARTS, TrainState

thorough = pytest.mark.skipif(
    "TWINGRAD_LAYOUTS" not in os.environ, reason="takes minutes: set TWINGRAD_LAYOUTS=all"
)
PROCESS = (str(Path(__file__).parents[1] / "helpers" / "processes.py"),)
PLANTED = {
    "torch": [
        *("2x1:mean-of-means", "2x1:own-loss", "2x1:gradients-averaged", "2x1:always-exchanged"),
        *("2x1:rows-dealt-out", "2x1:first-rows-dropout", "1x2:parts-averaged", "1x2:own-norm"),
    ],
    "jax": ["2x1:rows-dealt-out", "2x1:ranks-backwards", "1x2:parts-exchanged"],
}
CLEAN, NOT_FINITE = "2x1:none", ("2x1:not-finite", "1x2:not-finite")
RELAID = "2x1+1x2"


@cache
def _alone(name: str) -> distributed_worker.Arrays:
    """The run of one process in the framework ``name``."""
    with tempfile.TemporaryDirectory() as folder:
        return distributed.run(name, 1, [ALONE], Path(folder))[ALONE]


@pytest.fixture(scope="module")
def two(framework, tmp_path_factory) -> distributed_worker.Arrays:
    """The run of two processes that begins data-parallel and goes on sharded."""
    folder = tmp_path_factory.mktemp("two")
    return distributed.run(framework.name, 2, [RELAID], folder)[RELAID]


@pytest.fixture(scope="module")
def wrong(framework, tmp_path_factory) -> dict[str, distributed_worker.Arrays]:
    """By layout and by what is wrong in it, what two processes came to."""
    folder = tmp_path_factory.mktemp("wrong")
    short = distributed_worker.measure(framework, distributed_worker.settings(ALONE), 0, steps=3)
    write_safetensors(folder / "alone.safetensors", short)
    names = [CLEAN, *PLANTED[framework.name], *NOT_FINITE]
    return distributed.run(framework.name, 2, names, folder, PROCESS)


def _assert_same(ours: distributed_worker.Arrays, theirs: distributed_worker.Arrays) -> None:
    apart = distributed.judge(ours, theirs)
    assert apart["ok"], f"{apart}, but the limits are {LIMITS}"


@pytest.mark.slow
@pytest.mark.one_setup
def test_two_processes_compute_what_one_does(framework, two):
    _assert_same(two, _alone(framework.name))


@pytest.mark.slow
@pytest.mark.one_setup
def test_two_processes_of_one_framework_compute_what_one_of_the_other_does(
    frameworks, framework, two
):
    (other,) = {one.name for one in frameworks} - {framework.name}
    _assert_same(two, _alone(other))


@pytest.mark.slow
@pytest.mark.one_setup
@thorough
@pytest.mark.parametrize("size", [2, 4])
def test_every_layout_computes_what_one_process_does(framework, size, tmp_path):
    made = distributed.run(framework.name, size, distributed.WORLDS[size], tmp_path)
    for arrays in made.values():
        _assert_same(arrays, _alone(framework.name))


@pytest.mark.slow("jax", "torch")
def test_the_run_of_one_process_learns_and_is_clipped_at_some_steps_only(framework):
    losses, norms = _alone(framework.name)["figures"].T
    assert (losses[1:] < losses[0]).mean() > 0.9, "nothing was learned"
    assert (norms > 1).any()
    assert (norms < 1).any()


@pytest.mark.slow
@pytest.mark.one_setup
@thorough
def test_what_is_wrong_with_sharing_a_run_shows_in_its_numbers(framework, wrong):
    assert not wrong[CLEAN]["caught"]
    for name in PLANTED[framework.name]:
        assert wrong[name]["caught"], name


@pytest.mark.slow
@pytest.mark.one_setup
@thorough
@pytest.mark.parametrize("name", NOT_FINITE)
def test_what_is_not_finite_in_one_process_moves_nothing_in_any(wrong, name):
    assert not wrong[name]["finite"].all()
    assert not wrong[name]["moved"].any()


def test_a_layout_of_processes_that_are_not_there_is_refused(framework):
    (config,) = distributed_worker.settings("2x2")
    message = "data_parallel 2 times sharded 2 is 4 processes, but 1 run together: start 4"
    with pytest.raises(ValueError, match=message):
        distributed_worker.trainer(framework, config)


def test_a_process_beyond_the_gpus_of_its_host_is_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    from shared.world import World
    from torch_impl import distributed as ours

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world = World(rank=3, size=4, local_rank=3)
    with pytest.raises(ValueError, match="process 3 of this host has no GPU, of which there are 2"):
        ours.join(world, "127.0.0.1:1", "cuda")


def test_the_peak_of_a_gpu_is_that_of_this_processs_own(monkeypatch):
    jax = pytest.importorskip("jax")
    from jax_impl import runtime

    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 7}

    monkeypatch.setattr(jax, "local_devices", lambda backend: [Device()])
    assert runtime.peak_memory("cuda") == 7


def test_processes_that_fail_are_reported_and_none_is_left(framework, tmp_path):
    with pytest.raises(
        RuntimeError, match=f"(?s)a process of {framework.name} failed: .*parallel 3 "
    ):
        distributed.run(framework.name, 1, ["3x1"], tmp_path)


@pytest.mark.slow("jax")
def test_the_state_comes_tensor_by_tensor_in_canonical_order(framework):
    made = [(part, name, value.shape) for part, name, value in _trained(framework).export_each()]
    shapes = gpt2_shapes(distributed_worker.MODEL)
    assert made == [(part, name, shapes[name]) for part in PARTS for name in shapes]


class _OneByOne(Mapping):
    """Tensors that are made when they are asked for, and forgotten before the next one is."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors = tensors
        self.last = lambda: None

    def __getitem__(self, name: str) -> np.ndarray:
        assert self.last() is None, f"{name} was read while the one before was held"
        value = self.tensors[name].copy()
        self.last = weakref.ref(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def _trained(framework):
    (config,) = distributed_worker.settings(ALONE)
    trained = distributed_worker.trainer(framework, config)
    trained.step(*distributed_worker.batch(config, 0, 0))
    return trained


@pytest.mark.slow("jax")
def test_a_state_is_restored_without_two_tensors_being_read_at_once(framework):
    (config,) = distributed_worker.settings(ALONE)
    state = _trained(framework).export()
    restored = distributed_worker.trainer(framework, config)
    parts = (_OneByOne(getattr(state, part)) for part in PARTS)
    restored.restore(TrainState(state.step, *parts))
    for part, name, value in restored.export_each():
        assert (value == getattr(state, part)[name]).all(), (part, name)
