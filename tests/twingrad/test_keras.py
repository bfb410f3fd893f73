"""Keras models on the JAX backend: layers, weights, statistics, and a model that stays as it is."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import twingrad
from twingrad import Pair, jax_probe
from twingrad.jax_models import kinds

os.environ.setdefault("KERAS_BACKEND", "jax")  # which Keras reads once, when it is imported
keras = pytest.importorskip("keras")
if keras.backend.backend() != "jax":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

X = np.random.default_rng(0).normal(size=(8, 6))
IMAGES = np.random.default_rng(1).normal(size=(4, 3, 6, 6))
LAST = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1))
TOKENS = np.random.default_rng(2).integers(9, size=(4, 5))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def sequential(epsilon=1e-5, momentum=0.9):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, name="first"),
            layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name="norm"),
            layers.Activation("tanh"),
            layers.Dense(3, name="last"),
        ]
    )


class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(self.norm(x))


class Subclassed(keras.Model):
    """Layers without names of a user's own, which Keras numbers through the process."""

    def __init__(self, epsilon=1e-5):
        super().__init__()
        self.embed = keras.layers.Embedding(9, 6)
        self.blocks = [keras.layers.Dense(6), keras.layers.Dense(6)]
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon)
        self.head = keras.layers.Dense(3)

    def call(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + keras.ops.relu(block(x))
        return self.head(self.norm(x))


def subclassed(epsilon=1e-5):
    model = Subclassed(epsilon)
    model(TOKENS)
    return model


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(64, 2)

    def forward(self, x):
        y = torch.relu(self.conv(x)).permute(0, 2, 3, 1)
        return self.fc(y.reshape(len(y), -1))


def functional(activation="relu"):
    inputs = keras.Input((6, 6, 3))
    y = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    y = keras.layers.Activation(activation)(y)
    y = keras.layers.Flatten()(y)
    return keras.Model(inputs, keras.layers.Dense(2, name="fc")(y))


def pair_of(jax, train=True, **changes):
    return Pair(torch=Net, jax=jax, batch=[X], train=train, **changes)


def test_a_sequential_is_equal_with_its_statistics_and_no_dtype_of_its_own():
    compared = twingrad.compare(pair_of(sequential))
    assert compared.ok
    names = {tensor.name for gate in compared.outcomes[0].gates for tensor in gate.tensors}
    assert {"first", "norm", "last", "first.weight", "norm.weight", "norm.bias"} <= names
    notes = [note.note for note in compared.notes]
    assert any("the running variance is over n = 8 in JAX" in note for note in notes)
    # Keras' JAX backend has no float64 in its own tables of dtypes.
    assert any("JAX computes in float32 by design" in note for note in notes)


@pytest.mark.slow("changes1-state-norm.running_mean-0.1 in PyTorch, 0.01 in JAX")
@pytest.mark.parametrize(
    ("changes", "stage", "where", "words"),
    [
        ({"epsilon": 1e-3}, "forward", "norm", "epsilon 1e-05, JAX's normalised by the batch"),
        ({"momentum": 0.99}, "state", "norm.running_mean", "0.1 in PyTorch, 0.01 in JAX"),
    ],
)
def test_the_defaults_of_keras_norms_are_found(changes, stage, where, words):
    (first,) = twingrad.diagnose(pair_of(lambda: sequential(**changes)))
    assert (first.stage, first.where) == (stage, where)
    assert words in first.cause


@pytest.mark.slow
def test_layers_without_names_have_those_of_the_attributes_that_hold_them():
    first, second = (kinds.adapter(subclassed(), "float32", False) for _ in range(2))
    assert [*first.tensors] == [*second.tensors]
    assert {"embed.embeddings", "blocks.0.kernel", "blocks.1.bias", "norm.gamma"} <= {
        *first.tensors
    }
    assert twingrad.diagnose(Pair(torch=Texts, jax=subclassed, batch=[TOKENS])) == []
    wrong = Pair(torch=Texts, jax=lambda: subclassed(1e-3), batch=[TOKENS])
    (finding,) = twingrad.diagnose(wrong)
    assert finding.where == "norm"
    assert "epsilon 1e-05, JAX's normalised with epsilon 0.001" in finding.cause


def test_layers_of_a_sequential_without_names_are_counted_in_the_model():
    def make():
        return keras.Sequential([keras.Input((6,)), *(keras.layers.Dense(6) for _ in range(2))])

    for _ in range(2):
        adapter = kinds.adapter(make(), "float32", False)
        assert [*adapter.tensors][::2] == ["dense.kernel", "dense_1.kernel"]


@pytest.mark.slow
def test_kernels_of_convolutions_and_channels_last_are_matched():
    def pair(activation):
        return Pair(
            torch=Pictures, jax=lambda: functional(activation), batch=[IMAGES], jax_batch=[LAST]
        )

    assert twingrad.diagnose(pair("relu")) == []
    (finding,) = twingrad.diagnose(pair("leaky_relu"))
    assert finding.stage == "forward"


def test_a_live_model_stays_as_it_is():
    model = sequential()
    before = [np.array(v.value) for v in model.variables]
    twingrad.compare(pair_of(model))
    assert all(np.array_equal(a, v.value) for a, v in zip(before, model.variables, strict=True))
    layer = model.layers[0]
    assert (layer.dtype_policy.name, layer.kernel.dtype, layer.compute_dtype) == (("float32",) * 3)
    assert "__call__" not in vars(keras.layers.Dense)


def test_layers_and_inputs_compute_in_the_dtype_under_test():
    subject = jax_probe.Subject(sequential(), "bfloat16", train=False)
    seen = []

    def loss(model, x):
        y = model(x)
        seen.append((y.dtype, model.layers[0].kernel.dtype))
        return (y**2).mean()

    subject.plain(loss, [X])
    assert seen[-1] == (jnp.bfloat16, "bfloat16")


def test_dropout_is_off_unless_the_pair_trains():
    def make():
        return keras.Sequential(
            [keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(3, name="1")]
        )

    torch_model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
    assert twingrad.diagnose(Pair(torch=torch_model, jax=make, batch=[X])) == []


def test_updates_of_optax_are_compared():
    import optax

    def pair(rate):
        return pair_of(
            sequential,
            train=False,
            torch_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            jax_optimizer=optax.sgd(rate),
        )

    assert twingrad.diagnose(pair(0.1)) == []
    (finding,) = twingrad.diagnose(pair(0.2))
    assert finding.stage == "update"


def test_a_model_without_weights_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="has no weights yet: call it on an input"):
        twingrad.diagnose(pair_of(Subclassed))


def test_another_backend_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match="set KERAS_BACKEND=jax before it is imported"):
        twingrad.diagnose(pair_of(sequential))
