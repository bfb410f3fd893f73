"""Casts to a lower precision are left out while a model is judged in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen

from twingrad.arithmetic import arithmetic
from twingrad.casts import jax_casts, log, torch_casts


@pytest.fixture
def heard():
    with log.watching(log.CastLog()) as casts:
        yield casts


@pytest.fixture
def in_float64():
    with arithmetic("float64"):
        yield


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float(),
        lambda x: x.to(torch.bfloat16),
        lambda x: torch.softmax(x, -1, dtype=torch.float32),
        lambda x: x.sum(-1, dtype=torch.float32),
        lambda x: x * torch.arange(3, dtype=torch.float32),
        lambda x: torch.full((3, 3), 0.1, dtype=torch.float32) @ x,
    ],
)
def test_pytorch_stays_in_float64(cast):
    x = torch.linspace(0.1, 0.9, 9, dtype=torch.float64).reshape(3, 3).requires_grad_()
    with torch_casts.left_out():
        y = cast(x)
        y.sum().backward()
    assert y.dtype == torch.float64
    assert x.grad.dtype == torch.float64


def test_a_cast_left_out_in_pytorch_changes_no_digit_and_is_heard_by_module(heard):
    x = torch.tensor([0.1], dtype=torch.float64)
    with torch_casts.left_out(), log.inside("norm"):
        assert x.float().item() == 0.1
    assert heard.seen == {"norm": {"float32"}}
    assert torch.get_default_dtype() == torch.float32
    assert x.float().dtype == torch.float32  # afterwards it casts again


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.astype(jnp.float32),
        lambda x: x.astype(jnp.bfloat16),
        lambda x: jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7),
        lambda x: jnp.einsum("ij,jk->ik", x, x, preferred_element_type=jnp.float32),
        lambda x: x * jnp.arange(3, dtype=jnp.float32),
        lambda x: jnp.full((3, 3), 0.1, jnp.float32) @ x,
        lambda x: jax.lax.scan(
            lambda h, row: (h + row.astype(jnp.float32), h), jnp.zeros(3, jnp.float32), x
        )[0],
    ],
)
def test_jax_stays_in_float64(cast, in_float64):
    x = jnp.linspace(0.1, 0.9, 9, dtype=jnp.float64).reshape(3, 3)
    with jax_casts.left_out():
        assert cast(x).dtype == jnp.float64
        assert jax.jit(cast)(x).dtype == jnp.float64
        gradient = jax.jit(jax.grad(lambda x: cast(x).sum()))(x)
    assert gradient.dtype == jnp.float64


def test_what_was_traced_without_casts_is_not_used_where_they_count(in_float64):
    x = jnp.asarray([0.1])
    half = jax.jit(lambda x: x.astype(jnp.float32) / 2)
    before = half(x).dtype
    with jax_casts.left_out():
        assert half(x).dtype == jnp.float64
    assert before == half(x).dtype == jnp.float32


def test_a_cast_left_out_in_jax_changes_no_digit_and_is_heard_by_module(heard, in_float64):
    x = jnp.asarray([0.1])
    with jax_casts.left_out(), log.inside("norm"):
        assert float(x.astype(jnp.float32)[0]) == 0.1
    assert heard.seen == {"norm": {"float32"}}


def test_random_bits_are_the_same_with_casts_left_out(in_float64):
    key = jax.random.key(3)
    with jax_casts.left_out():
        within = np.asarray(jax.random.uniform(key, (5,), jnp.float32))
    np.testing.assert_array_equal(within, jax.random.uniform(key, (5,), jnp.float32))


TENTHS = np.array([0.1, 0.3], np.float32)


def test_what_only_shapes_are_asked_of_is_not_heard(heard, in_float64):
    """Linen evaluates the shapes of its initializers at every call, which are full of constants."""
    dense = linen.Dense(3)
    x = jnp.asarray([[0.1, 0.2]])
    parameters = {"params": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
    shape_of = jax.eval_shape
    with jax_casts.left_out():
        out = jax.jit(dense.apply)(parameters, x)
        assert not heard.constants
        assert jax.eval_shape(lambda: x.astype(jnp.float32)).shape == x.shape
        assert heard.seen == {}
        jax.jit(lambda x: x * jnp.asarray(TENTHS))(x)
    assert heard.constants
    assert out.dtype == jnp.float64
    assert jax.eval_shape is shape_of
