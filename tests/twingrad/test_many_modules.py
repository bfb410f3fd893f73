"""Models of very many modules: what grows with the square of their number is not done."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax.numpy as jnp
import torch
from flax import nnx

from twingrad import Pair, comparison, jax_replay, layouts
from twingrad.diagnosis import pairs
from twingrad.matching import matched
from twingrad.numerics import Verdict
from twingrad.partners import Leaf

LAYERS = 300


def _leaves(name, weight, layout):
    shapes = {weight: (4, 4), "bias": (4,)}
    return [
        Leaf(f"{name.format(n)}.{last}", shape, "Linear", layout=layout)
        for n in range(LAYERS)
        for last, shape in shapes.items()
    ]


@pytest.mark.slow("a{}-b{}")
@pytest.mark.parametrize(("torch_name", "jax_name"), [("h.{}.fc", "blocks.{}.fc"), ("a{}", "b{}")])
def test_layers_that_are_alike_are_asked_once_whether_they_fit(torch_name, jax_name, monkeypatch):
    asked = []
    fits = layouts.fits
    monkeypatch.setattr(layouts, "fits", lambda a, b: asked.append((a, b)) or fits(a, b))
    ours, theirs = _leaves(torch_name, "weight", "out in"), _leaves(jax_name, "kernel", "in out")
    partners, missing, spare = matched(ours, theirs)
    assert (len(partners), missing, spare) == (2 * LAYERS, [], [])
    for p in partners:
        assert [int(c) for c in p.jax if c.isdigit()] == [int(c) for c in p.torch if c.isdigit()]
    assert len(asked) < 20


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


class Port(nnx.Module):
    def __init__(self, factor):
        rngs = nnx.Rngs(0)
        self.factor = factor
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(3)])

    def __call__(self, x):
        for n, layer in enumerate(self.layers):
            x = x + (self.factor if n == 1 else 1.0) * jnp.tanh(layer(x))
        return x


@pytest.mark.slow("1.0")
@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_pass_that_is_not_compiled_gives_the_same_findings(factor, monkeypatch):
    pair = Pair(
        torch=Net, jax=lambda: Port(factor), batch=[np.random.default_rng(0).normal(size=(3, 4))]
    )
    compiled = pairs.diagnose(pair, every=True)
    monkeypatch.setattr(jax_replay, "MOST_COMPILED", 0)
    plain = pairs.diagnose(pair, every=True)
    assert [(f.stage, f.where, f.cause) for f in plain] == [
        (f.stage, f.where, f.cause) for f in compiled
    ]
    assert bool(plain) == (factor != 1.0)


def test_tensors_that_are_rounded_more_are_one_note():
    verdicts = [
        replace(_verdict(), name=f"layers.{n}.bias", error_ratio=1 + n / 10) for n in range(5)
    ]
    (note,) = comparison.rounding_alone(verdicts)
    assert note.where == "layers.4.bias"
    assert "rounded in float32 to 1.4 times" in note.note
    assert note.note.endswith("4 more tensors are over the limit by less")
    (alone,) = comparison.rounding_alone(verdicts[:1])
    assert alone.note.endswith("within float32's rounding")
    assert comparison.rounding_alone([]) == []


def _verdict():
    return Verdict(
        name="bias", kind="gradient", torch_error_u=1.0, jax_error_u=9.0, mutual_error_u=9.0,
        peak_error_u=9.0, limit_u=4.0, peak_limit_u=128.0, ok=False, error_ratio=2.0,
    )  # fmt: skip
