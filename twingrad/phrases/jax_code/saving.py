"""Saving and loading, in JAX with Flax NNX, optax and Orbax."""

import io
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import optax
from flax import nnx


def save_and_load(weight, bias):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    model.kernel, model.bias = nnx.Param(weight.T), nnx.Param(bias)
    file = io.BytesIO()
    jnp.savez(file, **nnx.to_pure_dict(nnx.state(model)))
    file.seek(0)
    other = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with jnp.load(file) as arrays:
        nnx.update(other, {name: jnp.asarray(arrays[name]) for name in arrays})
    return other.kernel[...].T, other.bias[...]


def safetensors(weight, bias):
    from safetensors.flax import load, save

    data = save({"weight": weight, "bias": bias})
    tensors = load(data)
    return tensors["weight"], tensors["bias"], len(data)


def checkpoint(weight, bias):
    import orbax.checkpoint as ocp

    state = {"weight": weight, "bias": bias}
    with (
        tempfile.TemporaryDirectory() as folder,
        ocp.StandardCheckpointer() as checkpointer,
    ):
        path = pathlib.Path(folder) / "step-1"
        checkpointer.save(path, state)
        checkpointer.wait_until_finished()
        loaded = checkpointer.restore(path, jax.eval_shape(lambda: state))
    return loaded["weight"], loaded["bias"]


def weights_of_the_other_framework(x, kernel, bias):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    nnx.update(model, {"kernel": kernel, "bias": bias})
    return model(x)


def load_a_part(weight):
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Linear(3, 2, rngs=rngs), nnx.Linear(2, 1, rngs=rngs)
    )
    wanted = len(jax.tree.leaves(nnx.state(model)))
    part = {"layers": {0: {"kernel": weight.T}}}
    nnx.update(model, part)
    return model.layers[0].kernel[...].T, wanted - len(jax.tree.leaves(part))


def resume(parameter, gradient):
    optimizer = optax.adam(0.1)

    def step(parameter, state):
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameter, updates), state

    parameter, state = step(parameter, optimizer.init(parameter))
    saved = {"parameter": parameter, "state": jax.tree.leaves(state)}
    form = jax.tree.structure(optimizer.init(parameter))
    parameter, _ = step(
        saved["parameter"], jax.tree.unflatten(form, saved["state"])
    )
    return parameter
