"""Checkpoints for each kind of JAX model: loaded as the pages say, and brought back bit for bit."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax
import torch

from tests.helpers.checkpoints_to_convert import PORTS, convert, same_files
from twingrad.jax_probe import made

KINDS = ("nnx", "linen", "equinox", "haiku", "function")


@pytest.fixture(autouse=True)
def ports(monkeypatch):
    """The pair files, which import one another, can be imported here too."""
    monkeypatch.syspath_prepend(str(PORTS))
    yield
    for name in [name for name in sys.modules if name.startswith(("kind_", "kinds_"))]:
        del sys.modules[name]


@pytest.fixture
def net(tmp_path):
    """The net in evaluation mode with numbers of its own, and the file of its weights."""
    from safetensors.torch import save_file

    random = np.random.default_rng(5)
    net = importlib.import_module("kinds_net").Net()
    with torch.no_grad():
        for x in net.state_dict().values():
            if x.is_floating_point():
                x.copy_(torch.from_numpy(random.uniform(0.5, 1.5, x.shape)))
        net.norm.num_batches_tracked.fill_(7)
    save_file(net.state_dict(), tmp_path / "net.safetensors", metadata={"format": "pt"})
    return net.eval(), tmp_path / "net.safetensors"


def _nnx(pair, place):
    import jax.numpy as jnp
    import orbax.checkpoint as ocp
    from flax import nnx

    model = made(pair.jax)
    numbers = ocp.StandardCheckpointer().restore(place)
    nnx.update(model, jax.tree.map(jnp.asarray, nnx.restore_int_paths(numbers)))
    model.eval()
    return model


def _linen(pair, place):
    import orbax.checkpoint as ocp

    module, _ = made(pair.jax)
    variables = ocp.StandardCheckpointer().restore(place)
    return lambda x: module.apply(variables, x)


def _equinox(pair, place):
    import equinox as eqx
    import orbax.checkpoint as ocp

    model, state = made(pair.jax)
    like = {"model": eqx.filter(model, eqx.is_array), "state": state}
    numbers = ocp.StandardCheckpointer().restore(place, like)
    model = eqx.nn.inference_mode(eqx.combine(numbers["model"], model))
    return lambda x: jax.vmap(lambda row: model(row, numbers["state"])[0])(x)


def _function(pair, place):
    import orbax.checkpoint as ocp

    function, params, state = made(pair.jax)
    function = getattr(function, "apply", function)
    like = {"params": params, "state": state}
    numbers = ocp.StandardCheckpointer().restore(place, like)
    return lambda x: function(numbers["params"], numbers["state"], x)[0]


LOADERS = {
    "nnx": _nnx,
    "linen": _linen,
    "equinox": _equinox,
    "haiku": _function,
    "function": _function,
}


@pytest.mark.slow("equinox", "haiku", "function", "nnx")
@pytest.mark.parametrize("kind", KINDS)
def test_what_orbax_restores_computes_what_pytorch_does(kind, net, tmp_path):
    model, weights = net
    assert convert(f"kind_{kind}", weights, "jax", tmp_path / "jax").status == 0
    pair = importlib.import_module(f"kind_{kind}").pair
    port = LOADERS[kind](pair, tmp_path / "jax" / "orbax")
    x = pair.batch[0].astype(np.float32)
    expected = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.asarray(port(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow("haiku-jax*", "equinox-jax", "*/orbax", "[!e]*/*")
@pytest.mark.parametrize("source", ["jax", "jax/model.safetensors", "jax/orbax"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_back_the_file_that_went_in(kind, source, net, tmp_path):
    _, weights = net
    assert convert(f"kind_{kind}", weights, "jax", tmp_path / "jax").status == 0
    assert convert(f"kind_{kind}", tmp_path / source, "torch", tmp_path / "torch").status == 0
    assert same_files(weights, tmp_path / "torch" / "model.safetensors")


def test_a_folder_that_orbax_saved_of_flax_own_state_is_read(net, tmp_path):
    import orbax.checkpoint as ocp
    from flax import nnx

    _, weights = net
    assert convert("kind_nnx", weights, "jax", tmp_path / "jax").status == 0
    model = _nnx(importlib.import_module("kind_nnx").pair, tmp_path / "jax" / "orbax")
    with ocp.StandardCheckpointer() as checkpointer:
        state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
        checkpointer.save(tmp_path / "trained", state)
    done = convert("kind_nnx", tmp_path / "trained", "torch", tmp_path / "torch")
    assert done.status == 0, done.err
    # Nothing says how many batches PyTorch's norm has seen, so the model's own zero is written.
    assert "PyTorch alone has norm.num_batches_tracked: written as its model makes them" in done.out
    from safetensors.torch import load_file

    before, after = load_file(weights), load_file(tmp_path / "torch" / "model.safetensors")
    assert after.pop("norm.num_batches_tracked").item() == 0
    del before["norm.num_batches_tracked"]
    assert before.keys() == after.keys()
    for name, x in before.items():
        assert torch.equal(x, after[name]), name


@pytest.mark.slow
def test_the_folder_of_orbax_can_be_moved(net, tmp_path):
    _, weights = net
    assert convert("kind_linen", weights, "jax", tmp_path / "jax").status == 0
    moved = Path(tmp_path / "elsewhere")
    (tmp_path / "jax" / "orbax").rename(moved)
    done = convert("kind_linen", moved, "torch", tmp_path / "torch")
    assert done.status == 0, done.err


@pytest.mark.slow
def test_trained_numbers_put_beside_the_others_find_what_pytorch_alone_has(net, tmp_path):
    import shutil

    from safetensors.torch import load_file

    _, weights = net
    assert convert("kind_function", weights, "jax", tmp_path / "jax").status == 0
    shutil.copytree(tmp_path / "jax" / "orbax", tmp_path / "jax" / "trained")
    done = convert("kind_function", tmp_path / "jax" / "trained", "torch", tmp_path / "torch")
    assert done.status == 0, done.err
    back = load_file(tmp_path / "torch" / "model.safetensors")
    assert back["norm.num_batches_tracked"].item() == 7
