"""The canonical parameter dictionary to and from a live Flax NNX model."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jax_impl.distributed import shard_like, whole
from jax_impl.runtime import Runtime
from shared.params import Params, forward_order

Model = TypeVar("Model", bound=nnx.Module)
Path = tuple[Hashable, ...]

# Flax's names of leaves that are ``weight`` elsewhere.
_WEIGHTS = {"kernel", "scale", "embedding"}


def build(make: Callable[[], Model], params: Params, runtime: Runtime) -> Model:
    """The model that ``make`` describes, holding ``params`` in the runtime's dtype.

    Under ``eval_shape`` a module costs no memory and draws no random numbers until it is filled.
    """
    model = nnx.eval_shape(make)
    nnx.update(model, import_tensors(model, params, runtime))
    compute_in(model, runtime.dtype)
    _seed_dropout(model, runtime)
    return model


def compute_in(model: nnx.Module, dtype: jnp.dtype) -> None:
    """Make ``model`` compute in ``dtype``, which is that of its parameters.

    Linear and LayerNorm follow their parameters; Embed keeps the dtype of its construction, and
    would silently round a float64 embedding to float32.
    """
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Embed):
            module.dtype = dtype


def import_tensors(
    model: nnx.Module, params: Mapping[str, np.ndarray], runtime: Runtime
) -> nnx.State:
    """``params``, or gradients under the same names, as copies in the model's tensor layout.

    Where the model is sharded, each process keeps its shards, tensor by tensor.
    """
    own = nnx.to_flat_state(nnx.state(model, nnx.Param))

    def read(name: str, variable: nnx.Variable) -> nnx.Variable:
        value = params[name].T if _is_transposed(name) else params[name]
        # A copy, since on a CPU the device array may share this memory.
        array = jax.device_put(value.astype(runtime.dtype, order="C", copy=True), runtime.device)
        return variable.replace(shard_like(array, variable.get_value()))

    return nnx.from_flat_state((path, read(_canonical_name(path), v)) for path, v in own)


def export_tensors(state: nnx.State) -> Params:
    """A state of parameters or of their gradients, in NumPy under canonical names.

    float64 and float32 keep their dtype and, on a CPU, share the array's memory; bfloat16, which
    NumPy lacks, is widened to float32.
    """
    return dict(export_each(state))


def export_each(state: nnx.State) -> Iterator[tuple[str, np.ndarray]]:
    """The same one after the other: shards are put together tensor by tensor."""
    named = {_canonical_name(path): variable for path, variable in nnx.to_flat_state(state)}
    for name in sorted(named, key=forward_order):  # Flax sorts by the alphabet
        value = to_numpy(named[name][...])
        yield name, value.T if _is_transposed(name) else value


def to_numpy(array: Array) -> np.ndarray:
    """All of ``array`` in NumPy, without a copy where possible; bfloat16 becomes float32."""
    array = whole(array)
    return np.asarray(array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array)


def _canonical_name(path: Path) -> str:
    *module, leaf = (str(part) for part in path)
    return ".".join([*module, "weight" if leaf in _WEIGHTS else leaf])


def _is_transposed(name: str) -> bool:
    """Flax kernels are (in, out), as the canonical layout is; only ``lm_head`` is not there."""
    return name == "lm_head.weight"


def _seed_dropout(model: nnx.Module, runtime: Runtime, seed: int = 0) -> None:
    """Give every dropout layer a stream of its own: ``eval_shape`` left their keys abstract."""
    streams = [
        module.rngs for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Dropout)
    ]
    if not streams:
        return
    keys = jax.random.split(jax.random.key(seed), len(streams))
    for stream, key in zip(streams, keys, strict=False):
        if stream is not None:
            stream.key.set_value(jax.device_put(key, runtime.device))
            stream.count.set_value(jax.device_put(jnp.zeros((), jnp.uint32), runtime.device))
