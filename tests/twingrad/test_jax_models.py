"""Kinds of JAX models: each is compared module by module, with what it keeps beside parameters."""

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
from twingrad.diagnosis import pairs
from twingrad.live import LivePair

X = np.random.default_rng(0).normal(size=(5, 6))
BUGS = (False, True)


class Net(nn.Module):
    """A square weight, a norm and an activation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def squares(model, *batch):
    return (model(*batch) ** 2).mean()


def epsilon(bug):
    return 1e-3 if bug else 1e-5


def nnx_net(bug):
    class Port(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(6, 6, rngs=rngs)
            self.norm = nnx.LayerNorm(6, epsilon=epsilon(bug), rngs=rngs)
            self.last = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.norm(self.first(x))))

    return lambda: Port(nnx.Rngs(0)), squares


def linen_net(bug):
    class Port(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Dense(6, name="first")(x)
            x = linen.LayerNorm(epsilon=epsilon(bug), name="norm")(x)
            return linen.Dense(3, name="last")(jnp.tanh(x))

    return lambda: (Port(), Port().init(jax.random.key(0), jnp.zeros((1, 6)))), squares


def equinox_net(bug, transform=jax.vmap):
    equinox = pytest.importorskip("equinox")

    class Port(equinox.Module):
        first: equinox.nn.Linear
        norm: equinox.nn.LayerNorm
        last: equinox.nn.Linear

        def __init__(self, key):
            self.first = equinox.nn.Linear(6, 6, key=key)
            self.norm = equinox.nn.LayerNorm(6, eps=epsilon(bug))
            self.last = equinox.nn.Linear(6, 3, key=key)

        def __call__(self, x):
            return self.last(jnp.tanh(self.norm(self.first(x))))

    return lambda: Port(jax.random.key(0)), lambda model, x: squares(transform(model), x)


def filtered_equinox_net(bug):
    equinox = pytest.importorskip("equinox")
    return equinox_net(bug, lambda model: equinox.filter_jit(equinox.filter_vmap(model)))


def partitioned_equinox_net(bug):
    equinox = pytest.importorskip("equinox")
    make, _ = equinox_net(bug)

    def partitioned():
        params, static = equinox.partition(make(), equinox.is_array)
        return lambda p, x: jax.vmap(equinox.combine(p, static))(x), params

    return partitioned, squares


def haiku_net(bug):
    haiku = pytest.importorskip("haiku")

    def net(x):
        x = haiku.Linear(6, name="first")(x)
        x = haiku.LayerNorm(-1, True, True, eps=epsilon(bug), name="norm")(x)
        return haiku.Linear(3, name="last")(jnp.tanh(x))

    transformed = haiku.transform(net)
    return lambda: (transformed, transformed.init(jax.random.key(0), jnp.zeros((1, 6)))), squares


MODULES = (
    nnx_net,
    linen_net,
    equinox_net,
    filtered_equinox_net,
    partitioned_equinox_net,
    haiku_net,
)


@pytest.mark.slow("haiku_net-False", "linen*", "nnx*", "equinox*", "filtered*", "part*-False")
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("kind", MODULES, ids=lambda kind: kind.__name__)
def test_a_model_of_modules_is_compared_module_by_module(kind, bug):
    make, loss = kind(bug)
    pair = Pair(torch=Net, jax=make, torch_loss=squares, jax_loss=loss, batch=(X,))
    findings = pairs.diagnose(pair)
    if not bug:
        assert findings == []
        return
    (found,) = findings
    assert (found.stage, found.where.split()[0]) == ("forward", "norm"), findings
    assert found.cause is not None
    assert "epsilon 0.001" in found.cause


class Block(nn.Module):
    """A residual block."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return x + torch.tanh(self.fc(self.norm(x)))


class Tower(nn.Module):
    """Blocks one after the other, over sequences."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


SEQUENCES = np.random.default_rng(1).normal(size=(2, 5, 6))


def scanned_linen_tower(bug):
    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            y = linen.LayerNorm(epsilon=epsilon(bug), name="norm")(x)
            return x + jnp.tanh(linen.Dense(6, name="fc")(y)), None

    class Port(linen.Module):
        @linen.compact
        def __call__(self, x):
            layers = linen.scan(
                linen.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True},
                length=3,
            )  # fmt: skip
            return layers(name="layers")(x, None)[0]

    return lambda: (Port(), Port().init(jax.random.key(0), jnp.zeros((1, 6)))), squares


def mapped_equinox_tower(bug):
    """Layers for one vector, mapped over positions inside and over the batch outside."""
    equinox = pytest.importorskip("equinox")

    class Layer(equinox.Module):
        norm: equinox.nn.LayerNorm
        fc: equinox.nn.Linear

        def __call__(self, x):
            return x + jnp.tanh(self.fc(self.norm(x)))

    class Port(equinox.Module):
        layers: list

        def __call__(self, x):
            for layer in self.layers:
                x = jax.vmap(layer)(x)
            return x

    def make():
        norm = equinox.nn.LayerNorm(6, eps=epsilon(bug))
        keys = jax.random.split(jax.random.key(0), 3)
        return Port([Layer(norm, equinox.nn.Linear(6, 6, key=key)) for key in keys])

    return make, lambda model, x: squares(jax.vmap(model), x)


def jitted_nnx_tower(bug):
    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(6, epsilon=epsilon(bug), rngs=rngs)
            self.fc = nnx.Linear(6, 6, rngs=rngs)

        def __call__(self, x):
            return x + jnp.tanh(self.fc(self.norm(x)))

    class Port(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List(Layer(rngs) for _ in range(3))

        @nnx.jit
        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    return lambda: Port(nnx.Rngs(0)), squares


TOWERS = (scanned_linen_tower, mapped_equinox_tower, jitted_nnx_tower)


@pytest.mark.slow("jitted_nnx_tower-*", "mapped_equinox_tower-*", "scanned_linen_tower-True")
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("kind", TOWERS, ids=lambda kind: kind.__name__)
def test_modules_are_seen_inside_scans_maps_and_compiled_functions(kind, bug):
    make, loss = kind(bug)
    pair = Pair(torch=Tower, jax=make, torch_loss=squares, jax_loss=loss, batch=(SEQUENCES,))
    findings = pairs.diagnose(pair)
    assert bool(findings) == bug, findings
    if bug:
        assert findings[0].where.split()[0] == "layers.0.norm", findings
        assert "epsilon 0.001" in str(findings[0].cause)


@pytest.mark.slow
def test_a_long_scan_stays_one_and_its_modules_are_told():
    class Steps(linen.Module):
        @linen.compact
        def __call__(self, x):
            def step(cell, carry, _):
                return jnp.tanh(cell(carry)), None

            cell = linen.Dense(6, name="first")
            scan = linen.scan(
                step, variable_broadcast="params", split_rngs={"params": False}, length=100
            )
            return scan(cell, x, None)[0]

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(100):
                x = torch.tanh(self.first(x))
            return x

    pair = Pair(
        torch=Again,
        jax=lambda: (Steps(), Steps().init(jax.random.key(0), jnp.zeros((1, 6)))),
        torch_loss=squares,
        jax_loss=squares,
        batch=(X,),
    )
    with arithmetic("float64"):
        live = LivePair.build(pair, "float64")
    (note,) = live.notes
    assert (note.where, note.note.split(":")[0]) == ("first", "not compared by itself")
    assert pairs.diagnose(pair) == []


@pytest.mark.slow
def test_without_losses_an_equinox_module_is_mapped_over_the_batch():
    make, _ = equinox_net(False)
    assert pairs.diagnose(Pair(torch=Net, jax=make(), batch=(X,))) == []


WRONG = {
    "a number": (lambda: 3, "jax made a int: expected an nnx.Module"),
    "a tuple of none": (lambda: (3, {}), "jax made a tuple of a int"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_model_of_no_known_kind_is_refused_with_what_is_expected(kind):
    make, words = WRONG[kind]
    with pytest.raises(ValueError, match="expected an nnx") as raised:
        pairs.diagnose(Pair(torch=Net, jax=make, batch=(X,)))
    assert words in str(raised.value)


def test_a_haiku_function_without_its_parameters_is_refused():
    haiku = pytest.importorskip("haiku")
    transformed = haiku.transform(lambda x: haiku.Linear(3)(x))
    with pytest.raises(ValueError, match="give it with its parameters"):
        pairs.diagnose(Pair(torch=Net, jax=lambda: transformed, batch=(X,)))


@pytest.mark.slow
def test_a_tie_in_a_function_is_settled_by_the_loss():
    def by_rows(params, x):
        return x @ params["fc"] + params["bias"]

    def by_columns(params, x):
        return x @ params["fc"].T + params["bias"]

    params = {"fc": jnp.zeros((6, 6)), "bias": jnp.zeros(6)}
    for function in (by_rows, by_columns):
        pair = Pair(
            torch=lambda: nn.Linear(6, 6),
            jax=lambda function=function: (function, params),
            batch=(X,),
            names={"weight": "fc"},
        )
        assert pairs.diagnose(pair) == []


@pytest.mark.slow
def test_an_optimizer_gets_the_models_own_tree():
    def tree(jax_model):
        live = LivePair.build(Pair(torch=Net, jax=jax_model, batch=[X]), "float32")
        parameters = {path: live.jax.tensors[path] for path in live.jax.trained}
        own = live.jax.model.own_tree(parameters)
        assert live.jax.model.by_path(own).keys() == parameters.keys()
        return own

    assert isinstance(tree(nnx_net(False)[0]), nnx.State)
    assert tree(linen_net(False)[0])["first"]["kernel"].shape == (6, 6)


@pytest.mark.slow
def test_a_mask_of_an_optax_chain_goes_by_the_models_names():
    import optax
    from flax import traverse_util

    def but_biases(params):
        return traverse_util.path_aware_map(lambda path, _: path[-1] != "bias", params)

    def groups(parameters):
        of = {True: [], False: []}
        for p, name in zip(parameters, [n for n, _ in Net().named_parameters()], strict=True):
            of[name.endswith("bias")].append(p)
        rates = [{"params": of[False], "weight_decay": 0.1}]
        return torch.optim.AdamW([*rates, {"params": of[True], "weight_decay": 0.0}], lr=1e-3)

    make, loss = linen_net(False)
    given = {
        "torch": Net, "jax": make, "torch_loss": squares, "jax_loss": loss, "batch": [X],
        "torch_optimizer": groups,
    }  # fmt: skip
    masked = optax.adamw(1e-3, weight_decay=0.1, mask=but_biases)
    assert pairs.diagnose(Pair(**given, jax_optimizer=masked)) == []
    (first,) = pairs.diagnose(Pair(**given, jax_optimizer=optax.adamw(1e-3, weight_decay=0.1)))
    assert first.stage == "update"
    assert "bias" in first.where
