"""Settings of a machine with a GPU, tested on one without by what stands in for it."""

import os

import numpy as np
import pytest

from bench.harness import frameworks


@pytest.fixture
def jax_runtime(monkeypatch):
    """JAX's half of ``runtime``, put back to float32 on the CPU afterwards."""
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    runtime = frameworks.one("jax").runtime
    yield runtime
    monkeypatch.undo()
    runtime.configure("float32", "cpu")


@pytest.fixture
def with_gpu(monkeypatch, jax_runtime):
    """A machine whose default device is a GPU, as far as JAX's half can tell."""
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.usefixtures("with_gpu")
def test_the_cpu_of_a_machine_with_a_gpu_is_given_no_programs_of_the_gpu(jax_runtime):
    import jax
    import jax.numpy as jnp

    from jax_impl import gpt2

    assert jax_runtime.computes_on_gpu()
    assert jax_runtime.devices() == ["cpu", "cuda"]
    runtime = jax_runtime.configure("bfloat16", "cpu")
    assert jax.config.jax_default_device is runtime.device
    assert not jax_runtime.computes_on_gpu()
    q = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    from flax import nnx

    # By cuDNN's kernel this could not be compiled for a CPU.
    attend = jax.jit(lambda q: gpt2.fused_attention(q, q, q, nnx.Dropout(0.0)))
    assert "cudnn" not in attend.lower(q).as_text()
    np.testing.assert_array_equal(np.asarray(attend(q), np.float32), 1.0)


def test_where_the_usual_device_is_asked_for_none_is_set(jax_runtime):
    import jax

    jax_runtime.configure("float32", "cpu")
    assert jax.config.jax_default_device is None


def test_a_device_that_computes_wrong_values_is_refused_at_the_start(jax_runtime, monkeypatch):
    import jax
    import jax.numpy as jnp

    device = jax.devices("cpu")[0]
    jax_runtime._check_values(device)
    monkeypatch.setattr(jnp, "sqrt", lambda x: x * 0)
    jax_runtime._check_values.cache_clear()
    with pytest.raises(ValueError, match=r"wrong values on cpu: sqrt\(256\) is \[0.0, 0.0"):
        jax_runtime._check_values(device)


@pytest.mark.parametrize(
    ("version", "plugin", "given", "added"),
    [
        ("0.10.2", True, "", True),
        ("0.11.0", True, "", True),
        ("0.10.1", True, "", False),
        ("0.11.1", True, "", False),
        ("0.10.2", False, "", False),
        ("0.10.2", True, "--xla_backend_extra_options=-other", False),
    ],
)
def test_a_jaxlib_with_slow_scatters_is_told_to_use_the_gpus_own_addition(
    jax_runtime, monkeypatch, version, plugin, given, added
):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(jax_runtime, "version", lambda package: version)
    monkeypatch.setattr(jax_runtime, "find_spec", lambda name: object() if plugin else None)
    jax_runtime.devices()
    jax_runtime.devices()
    assert os.environ["XLA_FLAGS"].count("-nvptx-allow-ftz-atomics") == int(added)
    assert given in os.environ["XLA_FLAGS"]


def test_pytorch_adds_up_products_in_float32_and_says_so():
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    import torch

    runtime = frameworks.one("torch").runtime
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    runtime.configure("bfloat16", "cpu")
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    assert not torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    assert runtime.settings()["bf16_reduced_precision_reduction"] == "False"
    runtime.configure("float32", "cpu")
