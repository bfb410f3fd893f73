"""Precision and kernels that backends switch on, and the batches that they read."""

import os
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import frameworks, programs
from bench.speed import contestants, workloads
from bench.speed.backends import backend
from bench.speed.backends.backend import Job, read_batches, write_batches
from bench.speed.contestants import alone
from bench.speed.messages import MeasureCeilings
from shared import params
from shared.config import preset


def test_batches_are_read_as_they_were_written(tmp_path):
    batches = [(np.arange(6).reshape(2, 3).T, np.arange(n)) for n in range(1, 12)]
    write_batches(tmp_path / "batches", batches)
    found = read_batches(str(tmp_path / "batches"))
    assert [len(batch) for batch in found] == [2] * len(batches)
    for (a, b), (x, y) in zip(found, batches, strict=True):
        np.testing.assert_array_equal(a, x)
        np.testing.assert_array_equal(b, y)


@pytest.fixture
def torch_runtime():
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    runtime = frameworks.one("torch").runtime
    yield runtime
    runtime.configure("float32", "cpu")


@pytest.mark.parametrize(("error", "precision"), [(2e-7, "medium"), (4e-3, "highest")])
def test_the_faster_library_is_taken_only_where_it_rounds_no_worse(
    torch_runtime, monkeypatch, error, precision
):
    errors = {"highest": 1e-7, "medium": error}
    monkeypatch.setattr(torch_runtime, "_product_error", errors.get)
    torch_runtime.configure("float32", "cpu")
    said = torch_runtime.tune("cpu", "float32", torch_runtime.ONEDNN_WIDTH)
    assert torch_runtime.settings()["float32_matmul_precision"] == precision
    assert ("oneDNN for matrix products" in said) == (precision == "medium")


def _job(framework: str) -> Job:
    return Job(
        contestant=alone(framework),
        optimizer=workloads.OPTIMIZER,
        batch_size=1,
        length=1,
        dtype="float32",
        device="cpu",
    )


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_contestants_of_pytorch_may_take_kernels_that_are_not_deterministic(
    torch_runtime, monkeypatch, given
):
    import torch

    from bench.speed.backends import torch_loop

    for name in torch_loop.DETERMINISM:
        monkeypatch.delenv(name, raising=False)
        if given:
            monkeypatch.setenv(name, given)
    torch_loop.prepare(_job("torch"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert [os.environ.get(name) for name in torch_loop.DETERMINISM] == [given, given]


@pytest.mark.parametrize("given", ["", "--xla_gpu_deterministic_ops=true"])
def test_contestants_of_jax_may_take_kernels_that_are_not_deterministic(monkeypatch, given):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    from bench.speed.backends import jax_loop

    monkeypatch.setenv("XLA_FLAGS", given)
    jax_loop.prepare(_job("jax"))
    flags = os.environ["XLA_FLAGS"]
    assert flags == (given or "--xla_gpu_exclude_nondeterministic_ops=false")


def test_ceilings_of_jax_may_take_kernels_that_are_not_deterministic(monkeypatch):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    from bench.speed.jax_ceilings import JaxCalls

    monkeypatch.setenv("XLA_FLAGS", "")
    JaxCalls(
        MeasureCeilings(
            framework="jax",
            config=preset("tiny"),
            batch_size=1,
            length=8,
            dtype="float32",
            device="cpu",
            fast=False,
        )
    )
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_exclude_nondeterministic_ops=false"


@pytest.mark.slow
def test_several_steps_in_one_program_train_as_so_many_programs_do():
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    *_, scanned = contestants.ladder("jax", "cuda")
    assert scanned.settings.dispatch > 1
    sizes = {"vocab_size": 61, "emb_dim": 24, "n_heads": 2, "n_layers": 1}
    config = replace(preset("tiny"), drop_rate=0.0, **sizes)
    job = replace(_job("jax"), contestant=scanned, config=config, batch_size=2, length=4)
    values = params.init_gpt2(config, 0, programs.SPREAD)
    made = backend.make(job, values)
    tokens = np.random.default_rng(0).integers(61, size=(scanned.settings.dispatch, 2, 2, 4))
    batches = [made.put(*batch) for batch in tokens]
    one_by_one = [made.wait(made.train(batch)) for batch in batches]
    made.reset(values)
    together = [made.wait(loss) for loss in made.train_several(batches)]
    assert len(set(together)) == len(batches)
    assert together == pytest.approx(one_by_one, rel=1e-6)


@pytest.mark.slow("jax")
def test_idiomatic_contestants_decode_in_the_dtype_that_they_are_labelled_with(framework):
    [idiomatic] = contestants.choose([f"{framework.name}-idiomatic"], "cpu", [])
    config = replace(preset("tiny"), vocab_size=61, emb_dim=24, n_heads=2, n_layers=1)
    job = replace(_job(framework.name), contestant=idiomatic, config=config, dtype="bfloat16")
    values = params.init_gpt2(config, 0, programs.SPREAD)
    made = backend.make(job, values)
    assert made.decode(np.array([[1, 2, 3]]), 2).shape == (1, 2)
    exported = framework.params.build(
        lambda: framework.make_gpt2(config), values, framework.runtime.configure("bfloat16", "cpu")
    )
    decoder = made.decoder
    weight = decoder.wte.weight if framework.name == "torch" else decoder.wte.embedding[...]
    right = exported.wte.weight if framework.name == "torch" else exported.wte.embedding[...]
    assert weight.dtype == right.dtype
    first = made.decoder
    made.reset(values)
    made.decode(np.array([[1, 2, 3]]), 1)
    assert made.decoder is not first


@pytest.mark.parametrize(("dtype", "narrower"), [("float32", 1), ("float64", 0), ("bfloat16", 0)])
def test_narrow_models_and_other_dtypes_keep_their_library(torch_runtime, dtype, narrower):
    torch_runtime.configure(dtype, "cpu")
    torch_runtime.tune("cpu", dtype, torch_runtime.ONEDNN_WIDTH - narrower)
    assert torch_runtime.settings()["float32_matmul_precision"] == "highest"


def test_the_error_of_a_product_is_that_of_its_precision(torch_runtime):
    torch_runtime.configure("float32", "cpu")
    assert 0 < torch_runtime._product_error("highest") < 1e-6
    assert torch_runtime.settings()["float32_matmul_precision"] == "highest"
