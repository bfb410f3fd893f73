"""Models with numbers of float32 among their constants, which float64 cannot look behind."""

from dataclasses import replace

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from twingrad import comparison, numerics
from twingrad.diagnosis.finding import Note
from twingrad.exact import ExactRun
from twingrad.live import LivePair
from twingrad.numerics import UNIT_ROUNDOFF, Gaps, Size, judge_float64
from twingrad.pair import Pair

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 40))
SCALE = RNG.uniform(1.0, 2.0, size=40)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(40, 20)

    def forward(self, x):
        return self.last(x * torch.as_tensor(SCALE, dtype=x.dtype))


class Port(nnx.Module):
    """The same with the scale in float32, moved by so many units of float32's rounding."""

    def __init__(self, units=0.0):
        self.last = nnx.Linear(40, 20, rngs=nnx.Rngs(0))
        self.scale = (SCALE * (1 + units * UNIT_ROUNDOFF["float32"])).astype(np.float32)

    def __call__(self, x):
        return self.last(x * jnp.asarray(self.scale))


def _squares(model, x):
    out = model(x)
    return (out**2).mean(), out


def _pair(units=0.0):
    return Pair(
        torch=Scaled, jax=lambda: Port(units), torch_loss=_squares, jax_loss=_squares, batch=[X],
        name="scaled",
    )  # fmt: skip


def test_what_is_no_farther_apart_than_float32_takes_either_is_equal_and_says_so():
    said: list[str] = []
    outcomes, notes = comparison.compare(_pair(units=3.0), say=said.append)
    assert [outcome.ok for outcome in outcomes] == [True, True]
    assert "scaled, float32: how far rounding takes either side" in said
    tensors = outcomes[0].gates[0].tensors
    assert [tensor.name for tensor in tensors if tensor.kind != "gradient"] == [
        "last", "output", "loss"
    ]  # fmt: skip
    farthest = max(t.mutual_error_u for t in tensors) * UNIT_ROUNDOFF["float64"]
    assert 1e-8 < farthest < 1e-6
    (note,) = notes
    assert note == Note(
        "model",
        "has numbers of float32 among its constants, which float64 cannot look behind: up to "
        f"{farthest:.2g} apart, no farther than float32's rounding takes either model",
    )


def test_what_is_farther_apart_is_judged_as_float64_is():
    (outcome,), notes = comparison.compare(_pair(units=64.0))
    assert not outcome.ok
    assert outcome.first_forward == "last"
    limits = {tensor.limit_u for tensor in outcome.gates[0].tensors}
    assert limits == {numerics.FLOAT64_RELATIVE / UNIT_ROUNDOFF["float64"]}
    assert not any("among its constants" in str(note) for note in notes)


@pytest.fixture
def run():
    """Both models in float64, once."""
    with comparison.arithmetic("float64"):
        yield ExactRun.once(LivePair.build(_pair(units=3.0), "float64"))


def test_every_tensor_is_judged_by_how_far_float32_takes_it(run):
    near = comparison.as_near_as_float32(run)
    torch_side, jax_side = comparison.values(run)
    assert [(v.kind, v.name) for v in near] == list(torch_side)
    with comparison.arithmetic("float32"):
        rounded = comparison.values(ExactRun.once(LivePair.build(run.live.pair, "float32")))
    for verdict in near:
        key = (verdict.kind, verdict.name)
        apart = numerics.distance(torch_side[key], jax_side[key])
        scale = numerics.size(torch_side[key])
        assert verdict.mutual_error_u == pytest.approx(
            numerics.in_units(apart.l2, scale.l2, "float64")
        )
        moved = [
            numerics.distance(of32[key], of64[key]).l2
            for of32, of64 in zip(rounded, (torch_side, jax_side), strict=True)
        ]
        units = UNIT_ROUNDOFF["float32"] / UNIT_ROUNDOFF["float64"]
        few = torch_side[key].size < numerics.FEW
        floor = numerics.FLOOR_OF_FEW_U if few else numerics.FLOOR_U
        allowed = max(floor, 4 * numerics.in_units(max(moved), scale.l2, "float32"))
        assert verdict.limit_u == pytest.approx(allowed * units)


def test_a_tensor_of_the_whole_that_is_too_far_leaves_nothing_and_an_inner_one_is_left_out(
    run, monkeypatch
):
    judge = numerics.judge_coarse

    def failing(name):
        def judged(*arguments):
            verdict = judge(*arguments)
            return replace(verdict, ok=False) if verdict.name == name else verdict

        return judged

    everything = len(comparison.as_near_as_float32(run))
    for name, left in (("last", everything - 1), ("output", 0), ("last.weight", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(numerics, "judge_coarse", failing(name))
            assert len(comparison.as_near_as_float32(run)) == left, name


def test_a_model_without_numbers_of_float32_has_no_such_rule(run, monkeypatch):
    monkeypatch.setattr(ExactRun, "is_coarse", False)
    assert comparison.as_near_as_float32(run) == []


def test_the_farthest_tensor_is_in_the_note():
    u = UNIT_ROUNDOFF["float64"]
    verdicts = [
        judge_float64("x", "loss", Gaps(*[Size(error * u, 0.0)] * 3), Size(1.0, 1.0))
        for error in (1.0, 2.0**30, 7.0)
    ]
    assert f"up to {2.0**30 * u:.2g} apart" in str(comparison.coarse(verdicts))
