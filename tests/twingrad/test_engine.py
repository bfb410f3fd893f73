"""Diagnosis of small models that strangers write: complex weights, masks, tuples, functions."""

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from twingrad import Pair
from twingrad.diagnosis import pairs

X = np.random.default_rng(0).normal(size=(5, 4))


def _squares(model, *batch):
    return (model(*batch) ** 2).mean()


def _diagnosed(make_torch, function, params, batch, **given):
    pair = Pair(
        torch=make_torch,
        jax=lambda: (function, params),
        torch_loss=given.pop("torch_loss", _squares),
        jax_loss=given.pop("jax_loss", _squares),
        batch=batch,
        **given,
    )
    return pairs.diagnose(pair)


class _Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.cfloat))

    def forward(self, x):
        return torch.einsum("bi,io->bo", x.to(self.weight.dtype), self.weight).real + x[:, :3]


@pytest.mark.slow("False")
@pytest.mark.parametrize("conjugated", [False, True])
def test_a_complex_weight_keeps_its_imaginary_part(conjugated):
    """The real part of a product with real numbers would hide ``conj`` if the loss did."""

    def function(params, x):
        weight = jnp.conj(params["weight"]) if conjugated else params["weight"]
        y = x.astype(weight.dtype) @ weight
        return jnp.abs(y + 1j * x[:, :3])

    class Absolute(_Spectral):
        def forward(self, x):
            y = torch.einsum("bi,io->bo", x.to(self.weight.dtype), self.weight)
            return (y + 1j * x[:, :3]).abs()

    params = {"weight": jnp.zeros((4, 3), complex)}
    findings = _diagnosed(Absolute, function, params, (X,))
    assert bool(findings) == conjugated, findings


@pytest.mark.slow
def test_a_mask_of_truth_values_reaches_both_as_one():
    def masked(where):
        return lambda model, x, keep: (model(x) * where(keep, x)).sum()

    def torch_where(keep, x):
        return (~keep).to(x.dtype)

    def jax_where(keep, x):
        assert keep.dtype == bool
        return (~keep).astype(x.dtype)

    keep = np.array([[True], [False], [True], [False], [False]])
    findings = _diagnosed(
        lambda: nn.Linear(4, 3),
        lambda params, x: x @ params["kernel"] + params["bias"],
        {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)},
        (X, keep),
        torch_loss=masked(torch_where),
        jax_loss=masked(jax_where),
    )
    assert findings == []


class _Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x), x


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.keeps = _Keeps()

    def forward(self, x):
        y, same = self.keeps(x)
        y += same
        return torch.tanh(y)


class _KeepsPort(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.fc(x), x


class _NetPort(nnx.Module):
    def __init__(self, rngs):
        self.keeps = _KeepsPort(rngs)

    def __call__(self, x):
        y, same = self.keeps(x)
        return jnp.tanh(y + same)


@pytest.mark.slow
def test_a_module_that_returns_its_input_and_an_addition_in_place_are_equal():
    pair = Pair(
        torch=_Net,
        jax=lambda: _NetPort(nnx.Rngs(0)),
        torch_loss=_squares,
        jax_loss=_squares,
        batch=(X,),
    )
    assert pairs.diagnose(pair, every=True) == []


class _Bag(nn.Module):
    """A function of integers with a matrix that is no table of rows."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(8, 3))

    def forward(self, ids):
        return nn.functional.one_hot(ids, 8).to(self.mix.dtype).sum(1) @ self.mix


IDS = np.random.default_rng(1).integers(8, size=(5, 4))


def test_a_gradient_of_a_function_of_integers_is_explained_without_an_error():
    def function(params, ids):
        mix = params["mix"]
        mix = mix + 0.5 * (mix - jax.lax.stop_gradient(mix))
        return jax.nn.one_hot(ids, 8, dtype=mix.dtype).sum(1) @ mix

    (found,) = _diagnosed(_Bag, function, {"mix": jnp.zeros((8, 3))}, (IDS,))
    assert (found.stage, found.where) == ("backward", "mix")
    assert found.cause == "JAX's is 1.5 times PyTorch's"


def test_integers_of_the_whole_model_are_called_by_what_they_enter():
    class Port(nnx.Module):
        def __init__(self):
            self.mix = nnx.Param(jnp.zeros((8, 3)))

        def __call__(self, ids):
            return jax.nn.one_hot(ids, 8, dtype=self.mix[...].dtype).sum(1) @ self.mix[...]

    pair = Pair(
        torch=_Bag,
        jax=Port,
        torch_loss=_squares,
        jax_loss=lambda model, ids: _squares(model, (ids + 1) % 8),
        batch=(IDS,),
    )
    first, *_ = pairs.diagnose(pair)
    assert first.evidence.startswith("integers into the model: ")
