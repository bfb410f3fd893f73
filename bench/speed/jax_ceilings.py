"""The calls that JAX's ceilings are measured by."""

import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.speed.backends.jax_loop import allow_nondeterminism, wait_for
from bench.speed.ceiling_calls import DROP_RATE, Call, TimedPart, sizes
from bench.speed.foreign import TensorFn
from bench.speed.messages import MeasureCeilings
from jax_impl import dropout, gpt2, loss, runtime
from shared.config import GPTConfig


class JaxCalls:
    """Products, copies and other parts of a step, compiled, each waited for."""

    def __init__(self, request: MeasureCeilings):
        # Determinism would keep cuBLAS from choosing its kernels by their speed.
        allow_nondeterminism()
        self.runtime = runtime.configure(request.dtype, request.device)
        if request.fast:
            runtime.tune(request.device, request.dtype, request.config.emb_dim)

    def product(self, rows: int, inner: int, columns: int) -> Call:
        a, b = (
            self._on_device(lambda shape: jax.random.normal(jax.random.key(0), shape), shape)
            for shape in ((rows, inner), (inner, columns))
        )
        multiply = jax.jit(jnp.matmul)
        return lambda: wait_for(multiply(a, b))

    def copy(self, count: int) -> Call:
        a = jnp.ones(count, jnp.float32, device=self.runtime.device)
        duplicate = jax.jit(jnp.copy)
        return lambda: wait_for(duplicate(a))

    def parts(self, config: GPTConfig, batch_size: int, length: int) -> Iterator[TimedPart]:
        size = sizes(config, batch_size, length)
        targets = jnp.zeros(size.logits[0], jnp.int32)
        for name, attention in (
            ("attention", gpt2.reference_attention),
            ("fused attention", gpt2.fused_attention),
        ):
            call = partial(attention, dropout=nnx.Dropout(0.0))
            yield TimedPart(name, size.weights, self._passes(call, *[size.heads] * 3))
        native = nnx.Dropout(DROP_RATE, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))
        for name, layer in (
            ("matched dropout", dropout.MatchedDropout(DROP_RATE)),
            ("native dropout", native),
        ):
            graphdef, state = nnx.split(layer)
            passes = self._passes(partial(_merged, graphdef), size.stream, state=(state,))
            yield TimedPart(name, math.prod(size.stream), passes)
        gelu = self._passes(partial(nnx.gelu, approximate=True), size.wide)
        yield TimedPart("GELU", math.prod(size.wide), gelu)
        mean = self._passes(lambda x: loss.cross_entropy(x, targets), size.logits)
        yield TimedPart("loss", math.prod(size.logits), mean)

    def _on_device(self, make: TensorFn, shape: tuple[int, ...]) -> Array:
        """What ``make`` gives for ``shape``, in the compute dtype, made on the device."""
        with jax.default_device(self.runtime.device):
            made: Array = jax.jit(lambda: make(shape).astype(self.runtime.dtype))()
        return made

    def _passes(
        self,
        function: TensorFn,
        *shapes: tuple[int, ...],
        state: tuple[nnx.State, ...] = (),
    ) -> Call:
        """Forward and backward of ``function`` of arrays of these shapes, after ``state``."""
        inputs = [self._on_device(partial(jnp.full, fill_value=0.5), shape) for shape in shapes]
        d = jnp.ones_like(jax.eval_shape(function, *state, *inputs))

        # Whatever is not an argument, XLA would compute while it compiles.
        @jax.jit
        def passes(d: Array, state: tuple[nnx.State, ...], *inputs: Array) -> object:
            out, backward = jax.vjp(partial(function, *state), *inputs)
            return out, backward(d)

        return lambda: wait_for(passes(d, state, *inputs))


def _merged(graphdef: nnx.GraphDef, state: nnx.State, x: Array) -> Array:
    """The module of ``graphdef`` and ``state``, called on ``x``."""
    out: Array = nnx.merge(graphdef, state, copy=True)(x)
    return out
