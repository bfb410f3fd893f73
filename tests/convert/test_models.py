"""Names and shapes of models that are made without their numbers, and of those that are not."""

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

from tests.helpers.checkpoints_to_convert import convert
from twingrad import Pair
from twingrad.convert import models
from twingrad.convert.models import Models

X = np.random.default_rng(0).normal(size=(3, 4))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.fc(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x)


def names(found):
    return [(p.torch, p.jax) for p in found.partners]


EXPECTED = [("fc.weight", "fc.kernel"), ("fc.bias", "fc.bias")]


def test_no_model_is_made_with_numbers_where_it_need_not_be(monkeypatch):
    seen = []

    def make_torch():
        net = Net()
        seen.append(net.fc.weight.device.type)
        return net

    def make_jax():
        port = Port(nnx.Rngs(0))
        seen.append(isinstance(port.fc.kernel[...], jax.core.Tracer))
        return port

    assert names(Models.of(Pair(torch=make_torch, jax=make_jax, batch=[X]))) == EXPECTED
    assert seen == ["meta", True]


def test_models_whose_code_needs_numbers_are_made():
    def make_torch():
        net = Net()
        assert net.fc.weight.sum().item() > -1e9  # which the meta device does not know
        return net

    def make_jax():
        port = Port(nnx.Rngs(0))
        assert float(port.fc.kernel[...].sum()) > -1e9  # nor does an abstract value
        return port

    assert names(Models.of(Pair(torch=make_torch, jax=make_jax, batch=[X]))) == EXPECTED


def test_live_models_are_looked_at_and_stay_as_they_are():
    net, port = Net(), Port(nnx.Rngs(0))
    weight, kernel = net.fc.weight.clone(), np.array(port.fc.kernel[...])
    found = Models.of(Pair(torch=net, jax=port, batch=[X]))
    assert names(found) == EXPECTED
    assert torch.equal(net.fc.weight, weight)
    assert net.training
    assert np.array_equal(port.fc.kernel[...], kernel)


def test_a_model_that_cannot_be_made_is_refused_in_a_sentence():
    def fail():
        raise RuntimeError("no such file")

    for broken in ({"torch": fail, "jax": Port(nnx.Rngs(0))}, {"torch": Net(), "jax": fail}):
        with pytest.raises(ValueError, match=r"raised RuntimeError: no such file \(.*\): fix it"):
            Models.of(Pair(**broken, batch=[X]))


def test_a_square_weight_is_settled_by_running_both():
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return x @ self.w.T

    params = {"w": jnp.zeros((4, 4))}
    pair = Pair(torch=Square, jax=(lambda p, x: x @ p["w"], params), batch=[X])
    (partner,) = Models.of(pair).partners
    assert not partner.others
    assert [step.code() for step in partner.steps] == [".axes(1, 0)"]
    with pytest.raises(ValueError, match="could lie in several ways"):
        Models.of(Pair(torch=Square, jax=pair.jax, batch=[X], copy=False))


class Tied(nn.Module):
    """A head that is the embedding, by transformers' convention left out of files."""

    _tied_weights_keys = ("embed.weight",)

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(3.0), persistent=False)


def test_tied_tensors_are_saved_by_the_name_that_the_model_keeps():
    side = models.TorchSide.of(Pair(torch=Tied, jax=Port(nnx.Rngs(0)), batch=[X]))
    assert side.names == {"embed.weight": ["embed.weight", "head.weight"], "table": ["table"]}
    assert side.saved == {"embed.weight": "head.weight"}


@pytest.mark.slow
def test_a_buffer_that_no_file_has_is_that_of_the_model(tmp_path):
    """Rotary frequencies and the like: computed by PyTorch's model, kept by JAX's."""
    from safetensors.torch import load_file, save_file

    save_file({"fc.weight": torch.ones(2, 4), "fc.bias": torch.ones(2)}, tmp_path / "a.safetensors")
    done = convert("own_buffer", tmp_path / "a.safetensors", "jax", tmp_path / "jax", check=True)
    assert done.status == 0, done.err
    made = load_file(tmp_path / "jax" / "model.safetensors")
    assert torch.equal(made["table"], torch.arange(2.0) + 0.5)
    done = convert("own_buffer", tmp_path / "jax", "torch", tmp_path / "torch", check=True)
    assert done.status == 0, done.err
    back = load_file(tmp_path / "torch" / "model.safetensors")
    assert set(back) == {"fc.weight", "fc.bias"}
