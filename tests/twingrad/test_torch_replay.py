"""A module that is run again by itself, and what it gives when one of its operations is changed."""

import numpy as np
import pytest

from bench.harness import frameworks

if not frameworks.installed("torch"):
    pytest.skip("it runs PyTorch's modules", allow_module_level=True)

import torch
from torch import nn

from twingrad import torch_probe
from twingrad.calls import LOSS, Key, given_calls
from twingrad.torch_replay import Change, Rerun

X = np.random.default_rng(0).normal(size=(3, 4))
ROOT = Key("")


class _Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x, *, gain=1.0):
        return x + gain * self.b(nn.functional.gelu(self.a(x)))


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = _Block(), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.block(self.block(x), gain=0.5))


def _loss(model, x):
    return (model(x) ** 2).mean()


def _rerun(owner, handed):
    torch.manual_seed(0)
    model = torch_probe.prepare(_Net(), "float64", train=False)
    seen = torch_probe.observe(model, _loss, (X,), "float64")
    rerun = Rerun(
        model=model,
        loss=_loss,
        batch=(X,),
        dtype="float64",
        owner=owner,
        calls=seen.calls,
        given=given_calls(owner, seen.events, handed),
    )
    rerun.prepare()
    return model, seen, rerun


PARTS = {Key("block.a"), Key("block.b"), Key("block.a", 1), Key("block.b", 1), Key("head")}


def test_the_calls_that_are_not_run_are_the_outermost_within_the_module():
    _, seen, _ = _rerun(Key("block"), PARTS)
    given = given_calls(Key("block", 1), seen.events, PARTS)
    assert given == [Key("block.a", 1), Key("block.b", 1)]
    whole = PARTS | {Key("block"), Key("block", 1)}
    assert given_calls(LOSS, seen.events, whole) == [
        Key("block"), Key("block", 1), Key("head")
    ]  # fmt: skip


@pytest.mark.parametrize("owner", [Key("block"), Key("block", 1), ROOT, LOSS])
@pytest.mark.parametrize("handed", [set(), PARTS])
def test_a_module_gives_the_values_of_the_pass(owner, handed):
    _, seen, rerun = _rerun(owner, handed)
    values = rerun.run()
    for (way, key, number), value in values.items():
        if key == LOSS:
            assert value == seen.loss
            continue
        recorded = seen.calls[key].inputs if way == "in" else seen.calls[key].outputs
        np.testing.assert_allclose(value, recorded[number], rtol=1e-13)


def test_a_module_gives_the_gradients_of_the_pass():
    _, seen, rerun = _rerun(Key("block"), PARTS)
    gradients = rerun.run(backward=True)
    through = gradients["in", Key("block"), 0]
    recorded = seen.calls[Key("block")].input_gradients[0]
    np.testing.assert_allclose(through, recorded, rtol=1e-13)
    of_b = seen.calls[Key("block.b")].output_gradients[0]
    np.testing.assert_allclose(gradients["out", Key("block.b"), 0], of_b, rtol=1e-13)


def test_every_operation_of_the_modules_own_is_recorded_by_name():
    _, _, rerun = _rerun(Key("block"), PARTS)
    rerun.run()
    assert [op.name for op in rerun.operations] == ["gelu", "mul", "add"]


def test_the_submodule_that_an_operation_stands_in_is_recorded():
    _, _, rerun = _rerun(Key("block"), set())
    rerun.run()
    assert [(op.name, op.within) for op in rerun.operations][:3] == [
        ("linear", "a"), ("gelu", ""), ("linear", "b")
    ]  # fmt: skip


def test_a_changed_operation_changes_what_follows_from_it_alone():
    _, seen, rerun = _rerun(Key("block"), PARTS)
    rerun.run()
    tanh = Change(frozenset({0}), lambda op: nn.functional.gelu(op.args[0], approximate="tanh"))
    values = rerun.run(tanh)
    hidden = torch.from_numpy(seen.calls[Key("block.a")].outputs[0])
    expected = nn.functional.gelu(hidden, approximate="tanh").numpy()
    np.testing.assert_allclose(values["in", Key("block.b"), 0], expected, rtol=1e-14)
    # What block.b returns is that of the pass, so that the change goes no further.
    recorded = seen.calls[Key("block")].outputs[0]
    np.testing.assert_allclose(values["out", Key("block"), 0], recorded, rtol=1e-13)


def test_an_operation_in_place_is_changed_in_place():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x * 1.0
            y.masked_fill_(y > 0, 0.0)
            return y

    torch.manual_seed(0)
    model = torch_probe.prepare(InPlace(), "float64", train=False)
    given = {"model": model, "loss": _loss, "batch": (X,), "dtype": "float64"}
    rerun = Rerun(**given, owner=ROOT, calls={}, given=[])
    rerun.prepare()
    rerun.run()
    number = next(op.number for op in rerun.operations if op.name == "masked_fill")
    negated = Change(frozenset({number}), lambda op: op.again(mask_1=~op.args[1]))
    assert (rerun.run(negated)["out", ROOT, 0] == np.maximum(X, 0)).all()


def test_modules_and_running_statistics_are_as_they_were_afterwards():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.norm(x))

    model = torch_probe.prepare(Normed(), "float64", train=True)
    before = torch_probe.statistics(model)
    given = {"model": model, "loss": _loss, "batch": (X,), "dtype": "float64"}
    rerun = Rerun(**given, owner=ROOT, calls={}, given=[Key("head")])
    rerun.prepare()
    rerun.run()
    after = torch_probe.statistics(model)
    assert all((after[name] == value).all() for name, value in before.items())
    assert "forward" not in vars(model.head)
