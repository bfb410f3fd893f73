"""Every activation and gradient of a model by name, in JAX: recorded by intercepted calls."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps

import jax
import numpy as np
from flax import nnx
from jax import Array

from jax_impl.optim import Optimizer
from jax_impl.params import export_tensors, import_tensors, to_numpy
from jax_impl.runtime import Runtime
from jax_impl.train import LossFn
from shared.observation import Observation
from shared.params import Params

Probes = dict[str, Array]


def observe(
    model: nnx.Module, loss_fn: LossFn, batch: tuple[np.ndarray, ...], runtime: Runtime
) -> Observation:
    """One forward and backward pass, with every activation and every gradient by name."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    order: list[str] = []  # jit returns dictionaries sorted by key

    def forward(
        params: nnx.State, probes: Probes, tensors: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, Probes]]:
        model = nnx.merge(graphdef, params, rest)
        with _recording(model, probes) as outputs:
            loss, output = loss_fn(model, *tensors)
        order[:] = outputs
        return loss, (output, outputs)

    tensors = runtime.batch(*batch)
    # A probe is a zero added to an output: the gradient at the probe is the gradient at the output.
    _, (_, shapes) = jax.eval_shape(forward, params, {}, tensors)
    zeros = {name: np.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    probes = jax.device_put(zeros, runtime.device)  # not ``jnp.zeros``, compiled for every shape
    gradient = jax.jit(jax.value_and_grad(forward, argnums=(0, 1), has_aux=True))
    (loss, (output, outputs)), (gradients, probe_gradients) = gradient(params, probes, tensors)
    return Observation(
        dtype=str(output.dtype),
        loss=to_numpy(loss),
        output=to_numpy(output),
        activations={name: to_numpy(outputs[name]) for name in order},
        activation_gradients={name: to_numpy(probe_gradients[name]) for name in order},
        gradients=export_tensors(gradients),
    )


@contextmanager
def _recording(model: nnx.Module, probes: Probes) -> Iterator[Probes]:
    """Within, the output of every submodule goes to the dictionary, in the order of completion.

    Dropout is left out: its effect is in the output of the module around it.
    NNX has no hooks, and its ``capture`` loses modules that stand in an ``nnx.List`` (Flax 0.12.8),
    so the classes' own ``__call__`` is replaced for the time being.
    """
    outputs: Probes = {}
    modules = {
        id(module): ".".join(map(str, path))
        for path, module in nnx.iter_modules(model)
        if path and not isinstance(module, nnx.Dropout)
    }
    classes = {type(m) for _, m in nnx.iter_modules(model) if callable(m)}
    own = {cls: vars(cls).get("__call__") for cls in classes}

    def hooked(call: Callable[..., Array]) -> Callable[..., Array]:
        @wraps(call)
        def record(module: nnx.Module, *args: Array) -> Array:
            output = call(module, *args)
            name = modules.get(id(module))
            if name is None:
                return output
            if name in probes:
                output = output + probes[name]
            outputs[name] = output
            return output

        return record

    for cls in classes:
        cls.__call__ = hooked(cls.__call__)
    try:
        yield outputs
    finally:
        for cls, call in own.items():
            if call is None:  # inherited: uncover it again
                del cls.__call__
            else:
                cls.__call__ = call


def stepped(
    model: nnx.Module, optimizer: Optimizer, gradients: Iterable[Params], runtime: Runtime
) -> Iterator[Params]:
    """The parameters after each optimizer step on canonical ``gradients`` from outside."""
    graphdef, state = nnx.split((model, optimizer))

    @partial(jax.jit, donate_argnums=0)
    def step(state: nnx.State, gradients: nnx.State) -> nnx.State:
        model, optimizer = nnx.merge(graphdef, state)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer))

    for injected in gradients:
        state = step(state, import_tensors(model, injected, runtime))
        nnx.update((model, optimizer), state)
        yield export_tensors(nnx.state(model, nnx.Param))
