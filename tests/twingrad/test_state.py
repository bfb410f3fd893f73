"""State beside parameters: running statistics and other buffers, over two batches in a row."""

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx
from torch import nn

from twingrad import Pair
from twingrad.arithmetic import arithmetic
from twingrad.diagnosis import state
from twingrad.diagnosis.finding import Finding, Note
from twingrad.live import LivePair

X = np.random.default_rng(0).normal(size=(6, 4)) + 1
SECOND = np.random.default_rng(1).normal(size=(6, 4)) - 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return torch.tanh(self.norm(x))


def squares(model, *batch):
    return (model(*batch) ** 2).mean()


def nnx_norm(momentum):
    class Port(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(4, momentum=momentum, epsilon=1e-5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return jnp.tanh(self.norm(x))

    return Port, squares


def linen_norm(momentum, asked=False):
    class Port(linen.Module):
        @linen.compact
        def __call__(self, x):
            norm = linen.BatchNorm(
                use_running_average=False, momentum=momentum, epsilon=1e-5, name="norm"
            )
            return jnp.tanh(norm(x))

    def loss(model, x):
        y = model(x, mutable=["batch_stats"])[0] if asked else model(x)
        return (y**2).mean()

    return lambda: (Port(), Port().init(jax.random.key(0), jnp.zeros((2, 4)))), loss


def linen_norm_whose_loss_asks(momentum):
    return linen_norm(momentum, asked=True)


def function_norm(momentum):
    def norm(params, state, x):
        mean, var = x.mean(0), x.var(0)
        y = (x - mean) / jnp.sqrt(var + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
        new = {"mean": mean, "var": var}
        old = state["norm"]
        return jnp.tanh(y), {"norm": {n: momentum * old[n] + (1 - momentum) * new[n] for n in old}}

    def arrays(*names):
        return {"norm": {name: jnp.zeros(4) for name in names}}

    return lambda: (norm, arrays("scale", "bias"), arrays("mean", "var")), squares


def equinox_norm(momentum):
    equinox = pytest.importorskip("equinox")

    class Port(equinox.Module):
        norm: equinox.nn.BatchNorm

        def __init__(self):
            self.norm = equinox.nn.BatchNorm(4, "batch", momentum=momentum, mode="batch")

        def __call__(self, x, state):
            y, state = self.norm(x, state)
            return jnp.tanh(y), state

    return equinox.nn.make_with_state(Port), None


def haiku_norm(momentum):
    haiku = pytest.importorskip("haiku")

    def net(x):
        norm = haiku.BatchNorm(True, True, decay_rate=momentum, eps=1e-5, name="norm")
        return jnp.tanh(norm(x, is_training=True))

    transformed = haiku.transform_with_state(net)

    def make():
        return transformed, *transformed.init(jax.random.key(0), jnp.zeros((2, 4)))

    return make, squares


def compared(kind, momentum, batches=(), net=Net, **given):
    make, loss = kind(momentum)
    pair = Pair(
        torch=net, jax=make, torch_loss=loss and squares, jax_loss=loss, batch=(X,),
        **{"train": True, **given},
    )  # fmt: skip
    with arithmetic("float64"):
        live = LivePair.build(pair, "float64")
        return list(state.compare(live, live.run_torch(), batches))


KINDS = (
    nnx_norm, linen_norm, linen_norm_whose_loss_asks, function_norm, equinox_norm,
)  # fmt: skip
BATCHES = {"the first twice": (), "two": [((X,), (X,)), ((SECOND,), (SECOND,))]}


@pytest.mark.slow("linen_norm-the first twice")
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_variance_over_n_is_a_note_with_its_size(kind, batches):
    notes = compared(kind, 0.9, BATCHES[batches])
    assert [type(note) for note in notes] == [Note], notes
    assert notes[0].where == "norm.running_var"
    assert "over n = 6 in JAX and over n - 1 in PyTorch" in notes[0].note
    assert "apart, relative" in notes[0].note


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_wrong_momentum_is_a_finding_at_the_statistic(kind, batches):
    (found,) = compared(kind, 0.1, BATCHES[batches])
    assert isinstance(found, Finding)
    assert (found.stage, found.where, found.mode) == ("state", "norm.running_mean", "training")
    assert found.size > 1e9
    assert found.cause is not None
    assert "momentum: the new batch counts 0.1 in PyTorch, 0.9 in JAX" in found.cause


def test_running_averages_that_are_freed_of_their_start_are_a_note():
    notes = compared(haiku_norm, 0.9, BATCHES["two"])
    assert {type(note) for note in notes if note.where.startswith("norm.running")} == {Note}
    assert all("freed of their start" in n.note for n in notes if n.where == "norm.running_mean")


def test_of_an_evaluation_it_is_said_that_state_was_not_compared():
    (note,) = compared(nnx_norm, 0.9, train=False)
    assert isinstance(note, Note)
    assert note.note.startswith("state not compared: the pair runs in evaluation mode")


class Average(nn.Module):
    """An average of its inputs in a buffer, and a buffer that stays."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.register_buffer("table", torch.ones(4))
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        if self.training:
            self.seen.mul_(0.75).add_(x.detach().mean(0), alpha=0.25)
        return x * self.scale * self.table


def _average(share, keeps=True):
    class Port(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(4))
            if keeps:
                self.average = nnx.Variable(jnp.zeros(4))

        def __call__(self, x):
            if keeps:
                self.average[...] = (1 - share) * self.average[...] + share * x.mean(0)
            return x * self.scale[...]

    return lambda momentum: (Port, squares)


def test_another_buffer_is_compared_where_it_is_named():
    names = {"seen": "average"}
    assert compared(_average(0.25), 0, net=Average, names=names) == []
    (found,) = compared(_average(0.5), 0, net=Average, names=names)
    assert isinstance(found, Finding)
    assert (found.where, found.stage) == ("seen", "state")
    assert "JAX's first step is 2 times PyTorch's" in str(found.cause)


def test_a_buffer_that_changes_and_has_no_partner_is_told():
    (note,) = compared(_average(0.25, keeps=False), 0, net=Average)
    assert note == Note("seen", state.ALONE.format(side="PyTorch", other="JAX"))
