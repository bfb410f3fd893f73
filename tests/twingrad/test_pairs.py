"""The rule that compare and diagnose follow: the whole decides, the rest are notes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import twingrad
from twingrad import batches, comparison, numerics
from twingrad.pair import Pair

X = np.random.default_rng(0).normal(size=(6, 8))


class TorchNorm(nn.Module):
    """RMSNorm as Llama has it: in float32, whatever it is given."""

    def __init__(self, epsilon=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.epsilon = epsilon

    def forward(self, x):
        y = x.to(torch.float32)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weight * y.to(x.dtype)


class TorchModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = TorchNorm()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(x))


class JaxNorm(nnx.Module):
    def __init__(self, epsilon, scale):
        self.weight = nnx.Param(jnp.ones(8))
        self.epsilon, self.scale = epsilon, scale

    def __call__(self, x):
        y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + self.epsilon)
        return self.weight[...] * y * self.scale


class Port(nnx.Module):
    def __init__(self, epsilon=1e-6, scale=1.0, shift=0.0):
        self.norm = JaxNorm(epsilon, scale)
        self.head = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
        self.shift = shift

    def __call__(self, x):
        return self.head(self.norm(x)) + self.shift


def pair(**changes):
    return Pair(torch=TorchModel, jax=lambda: Port(**changes), batch=[X])


def test_float32_by_design_in_one_model_alone_is_a_note():
    found = twingrad.diagnose(pair())
    assert found.ok
    (note,) = found.notes
    assert note.where == "norm"
    assert "PyTorch computes in float32 by design" in note.note
    compared = twingrad.compare(pair())
    assert compared.ok
    assert compared.notes == found.notes


def test_a_fault_below_the_rounding_of_float32_is_found_beneath_a_cast():
    (first,) = twingrad.diagnose(pair(epsilon=1.01e-6))
    assert first.where == "norm"
    assert 1 < first.size < 1e5


def test_a_tiny_difference_does_not_hide_a_large_one():
    first, *others = twingrad.diagnose(pair(scale=1 + 5e-8, shift=0.01), every=True)
    assert first.where == "model"
    assert any(finding.where == "norm" for finding in others)
    assert first.size > max(f.size for f in others if f.stage == "forward")


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(8, 3))

    def forward(self, x):
        return (x - x[:2].mean()) @ self.w


def test_what_holds_for_the_first_batch_alone_is_found_on_the_second():
    def port(mean):
        return lambda params, x: (x - mean(x)) @ params["w"], {"w": jnp.ones((8, 3))}

    right = Pair(torch=Centred, jax=port(lambda x: x[:2].mean()), batch=[X])
    by_chance = Pair(torch=Centred, jax=port(lambda x: X[:2].mean()), batch=[X])
    assert twingrad.diagnose(right).ok
    (first,) = twingrad.diagnose(by_chance)
    assert first.stage == "forward"
    compared = twingrad.compare(by_chance, causes=False)
    assert not compared.ok
    assert [gate.name for gate in compared.outcomes[0].gates if not gate.ok] == ["second batch"]


class TorchMasked(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4, padding_idx=0)
        self.head = nn.Linear(4, 2)

    def forward(self, ids):
        return self.head(self.embed(ids))


class MaskedPort(nnx.Module):
    def __init__(self):
        self.embed = nnx.Embed(5, 4, rngs=nnx.Rngs(0))
        self.head = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, ids):
        kept = (ids != 0)[..., None]
        e = self.embed(ids)
        return self.head(jnp.where(kept, e, jax.lax.stop_gradient(e)))


def test_work_divided_otherwise_is_a_note_where_the_whole_agrees():
    divided = Pair(torch=TorchMasked, jax=MaskedPort, batch=[np.arange(12).reshape(3, 4) % 5])
    found = twingrad.diagnose(divided)
    assert found.ok
    assert any(n.where == "embed" and "divided otherwise" in n.note for n in found.notes)
    assert twingrad.compare(divided).ok


@pytest.mark.parametrize("changes", [{}, {"epsilon": 1e-5}, {"scale": 1 + 1e-9}, {"shift": 1.0}])
def test_compare_and_diagnose_never_contradict_each_other(changes):
    assert (
        twingrad.compare(pair(**changes), causes=False).ok == twingrad.diagnose(pair(**changes)).ok
    )


def test_a_model_that_takes_no_second_batch_is_judged_on_one_and_that_is_noted():
    class Whole(TorchModel):
        def forward(self, x):
            if not bool((x == x.round()).all()):
                raise TypeError("whole numbers alone")
            return super().forward(x)

    # The mean of rows of 0 and 3 is no whole number.
    rows = np.where(np.arange(6)[:, None] % 2, 0.0, 3.0) + np.zeros(8)
    given = Pair(torch=Whole, jax=Port, batch=[rows])
    found = twingrad.diagnose(given)
    assert found.ok
    assert any("whole numbers alone" in note.note for note in found.notes)
    assert twingrad.compare(given).notes == found.notes


def test_rounding_beyond_the_other_frameworks_is_a_note_where_no_module_is_off(monkeypatch):
    def strict(name, kind, *rest):
        verdict = numerics.judge_rounded(name, kind, *rest)
        return replace(verdict, ok=False, error_ratio=1.2) if name == "head.bias" else verdict

    monkeypatch.setattr(comparison, "judge_rounded", strict)
    found, compared = twingrad.diagnose(pair()), twingrad.compare(pair())
    assert found.ok
    assert compared.ok
    assert compared.notes == found.notes
    assert any("rounded in float32 to 1.2 times" in note.note for note in found.notes)


class Rounded(Port):
    def __call__(self, x):
        return super().__call__(x.astype(jnp.bfloat16).astype(x.dtype))


def test_a_lower_precision_in_one_model_alone_is_found_in_float32():
    given = Pair(torch=TorchModel, jax=Rounded, batch=[X])
    (first,) = twingrad.diagnose(given)
    assert first.dtype == "float32"
    assert not twingrad.compare(given, causes=False).ok


def second(*batch, jax_batch=None):
    given = Pair(torch=len, jax=(len, {}), batch=list(batch), jax_batch=jax_batch)
    return batches.second(given)


def test_a_second_batch_keeps_what_is_positive_and_what_adds_up_to_one():
    x = np.random.default_rng(1).dirichlet(np.ones(4), size=5)
    ids = np.arange(5)
    made = second(x, ids)
    assert (made.batch[0] > 0).all()
    np.testing.assert_allclose(made.batch[0].sum(1), 1)
    assert not np.array_equal(made.batch[0], x)
    assert sorted(made.batch[1]) == list(ids)
    assert not np.array_equal(made.batch[1], ids)


def test_a_second_batch_lies_in_jax_as_the_first_does():
    images = np.random.default_rng(2).normal(size=(4, 3, 5, 2))
    made = second(images, jax_batch=[images.transpose(0, 2, 3, 1)])
    np.testing.assert_array_equal(made.jax_batch[0], made.batch[0].transpose(0, 2, 3, 1))
    assert second(images, jax_batch=[np.ones((4, 3, 5, 2))]) is None
