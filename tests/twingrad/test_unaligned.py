"""Modules that have no counterpart: each is named, with those of the other model that come near."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax
import torch
from flax import nnx

import twingrad
from twingrad import Pair
from twingrad.aligned_calls import held_by_path
from twingrad.partners import Partner

X = np.random.default_rng(0).normal(size=(3, 4))


class Gate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.sigmoid(self.q(x)) * self.k(x)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.gate, self.act = torch.nn.LayerNorm(4), Gate(), torch.nn.Tanh()

    def forward(self, x):
        return self.act(self.gate(self.norm(x)))


class Block(nnx.Module):
    """The gate with its norm inside: it holds other parameters than PyTorch's gate."""

    def __init__(self, epsilon, rngs):
        self.norm = nnx.LayerNorm(4, epsilon=epsilon, rngs=rngs)
        self.q, self.k = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        x = self.norm(x)
        return jax.nn.sigmoid(self.q(x)) * self.k(x)


class Port(nnx.Module):
    def __init__(self, epsilon):
        self.block = Block(epsilon, nnx.Rngs(0))

    def __call__(self, x):
        return jax.numpy.tanh(self.block(x))


def _pair(epsilon):
    return Pair(torch=Net, jax=lambda: Port(epsilon), batch=[X])


def _notes(result):
    return {note.where: note.note for note in result.notes}


@pytest.mark.slow
def test_modules_without_a_counterpart_are_named_with_the_nearest_ones():
    notes = _notes(twingrad.diagnose(_pair(1e-3)))
    assert set(notes) == {"gate", "block in JAX", "model"}
    assert "(Gate, output (3, 4)): no module of JAX holds" in notes["gate"]
    assert "nearest is block (Block, output (3, 4))" in notes["gate"]
    assert "nearest is gate (Gate, output (3, 4))" in notes["block in JAX"]
    assert "act (Tanh)" in notes["model"]
    assert _notes(twingrad.compare(_pair(1e-3), causes=False)) == notes


@pytest.mark.slow
def test_models_that_agree_need_no_such_note():
    assert twingrad.diagnose(_pair(1e-5)).notes == []


def _partner(torch_name, jax_name):
    return Partner(torch=torch_name, jax=jax_name, shape=(2,))


def test_what_lies_under_a_path_is_held_by_it():
    partners = [_partner("a.b.weight", "x.y.kernel"), _partner("a.b.bias", "x.z.bias")]
    assert held_by_path(partners, "torch") == {
        path: {"a.b.weight", "a.b.bias"} for path in ("", "a", "a.b")
    }
    assert held_by_path(partners, "jax")["x.z"] == {"a.b.bias"}
