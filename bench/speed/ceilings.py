"""What a framework reaches on matrix products and copies alone: what no training step can beat."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from shared.config import GPTConfig

REPEATS = 7
COPIED = 1 << 28  # bytes


def shapes(config: GPTConfig, positions: int) -> dict[str, tuple[int, int, int]]:
    """Matrix products of a forward pass: rows, inner, columns."""
    C, V = config.emb_dim, config.vocab_size
    return {
        "c_attn": (positions, C, 3 * C),
        "c_proj": (positions, C, C),
        "c_fc": (positions, C, 4 * C),
        "mlp.c_proj": (positions, 4 * C, C),
        "head": (positions, C, V),
        "head, weight gradient": (V, positions, C),
    }


def measure(
    *,
    framework: str,
    config: GPTConfig,
    batch_size: int,
    length: int,
    dtype: str,
    device: str,
    fast: bool,
    parts: bool = True,
) -> dict[str, Any]:
    """Rates of every product (best and median of REPEATS, FLOP/s) and of a copy (bytes/s).

    ``fast`` takes whatever ``tune`` switches on. A rate is of the products' nominal arithmetic, two
    operations a multiply-add; a copy's bytes are counted once read and once written. What else a
    step is made of is timed forward and backward together, in elements/s (median), where ``parts``
    are wanted.
    """
    products, copy, others = {"torch": _torch, "jax": _jax}[framework](
        dtype, device, fast, config.emb_dim
    )
    random = np.random.default_rng(0)
    rows = []
    for name, (m, k, n) in shapes(config, batch_size * length).items():
        left = random.standard_normal((m, k), np.float32)
        right = random.standard_normal((k, n), np.float32)
        seconds = times(products(left, right))
        operations = 2 * m * k * n
        rows.append(
            {
                "name": name,
                "shape": [m, k, n],
                "flops_per_s": operations / min(seconds),
                "median_flops_per_s": operations / median(seconds),
            }
        )
    seconds = times(copy(np.ones(COPIED // 4, np.float32)))
    timed = [
        {"name": name, "elements": size, "elements_per_s": size / median(times(call))}
        for name, size, call in (others(config, batch_size, length) if parts else ())
    ]
    return {
        "framework": framework,
        "fast": fast,
        "products": rows,
        "parts": timed,
        "copy_bytes_per_s": 2 * COPIED / min(seconds),
    }


def best(ceilings: list[dict[str, Any]]) -> float:
    """The highest rate of any product in any framework, FLOP/s; 0 where none was measured."""
    rates = [row["flops_per_s"] for found in ceilings for row in found["products"]]
    return max(rates, default=0.0)


def times(call: Callable[[], Any]) -> list[float]:
    """Seconds of each of ``REPEATS`` calls, after one that is not counted."""
    call()
    found = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


Call = Callable[[], None]
Made = Callable[..., Call]
Parts = Callable[[GPTConfig, int, int], Iterator[tuple[str, int, Call]]]
RATE = 0.1  # of dropout


def _sizes(config: GPTConfig, batch_size: int, length: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of a stream, of its heads, of GELU's input, and of the logits."""
    stream = (batch_size, length, config.emb_dim)
    heads = (batch_size, length, config.n_heads, config.head_dim)
    logits = (batch_size * length, config.vocab_size)
    return stream, heads, (*stream[:2], 4 * config.emb_dim), logits


def _torch(dtype: str, device: str, fast: bool, width: int) -> tuple[Made, Made, Parts]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    from torch_impl import dropout, gpt2, loss
    from torch_impl import runtime as runtimes

    runtime = runtimes.configure(dtype, device)
    torch.use_deterministic_algorithms(False)
    if fast:
        runtimes.tune(device, dtype, width)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def products(left: np.ndarray, right: np.ndarray) -> Callable[[], None]:
        a, b = runtime.batch(left, right)
        out = a @ b

        def call() -> None:
            torch.mm(a, b, out=out)
            wait()

        return call

    def copy(source: np.ndarray) -> Callable[[], None]:
        a = torch.from_numpy(source).to(runtime.device)
        out = torch.empty_like(a)

        def call() -> None:
            out.copy_(a)
            wait()

        return call

    def both(function: Callable, *sizes: tuple[int, ...]) -> Call:
        """Forward and backward of ``function`` of tensors of these sizes."""
        inputs = [runtime.batch(np.full(size, 0.5, np.float32))[0] for size in sizes]
        for z in inputs:
            z.requires_grad_()

        def call() -> None:
            out = function(*inputs)
            torch.autograd.grad(out, inputs, torch.ones_like(out))
            wait()

        return call

    def parts(config: GPTConfig, B: int, T: int) -> Iterator[tuple[str, int, Call]]:
        stream, heads, wide, logits = _sizes(config, B, T)
        targets = torch.zeros(logits[0], dtype=torch.int64, device=runtime.device)
        nothing = nn.Dropout(0.0)
        weights = B * config.n_heads * T * T
        for name in ("reference", "fused"):
            attention = partial(getattr(gpt2, f"{name}_attention"), dropout=nothing)
            label = "attention" if name == "reference" else "fused attention"
            yield label, weights, both(attention, heads, heads, heads)
        for label, layer in (
            ("matched dropout", dropout.MatchedDropout(RATE)),
            ("native dropout", nn.Dropout(RATE)),
        ):
            yield label, math.prod(stream), both(layer, stream)
        yield "GELU", math.prod(wide), both(partial(F.gelu, approximate="tanh"), wide)
        yield "loss", math.prod(logits), both(lambda x: loss.cross_entropy(x, targets), logits)

    return products, copy, parts


def _jax(dtype: str, device: str, fast: bool, width: int) -> tuple[Made, Made, Parts]:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from jax_impl import dropout as jax_impl_dropout
    from jax_impl import gpt2 as jax_impl_gpt2
    from jax_impl import loss as jax_impl_loss
    from jax_impl import runtime as jax_impl_runtime

    runtime = jax_impl_runtime.configure(dtype, device)
    if fast:
        jax_impl_runtime.tune(device, dtype, width)

    def products(left: np.ndarray, right: np.ndarray) -> Callable[[], None]:
        a, b = runtime.batch(left, right)
        multiply = jax.jit(jnp.matmul)
        return lambda: jax.block_until_ready(multiply(a, b))

    def copy(source: np.ndarray) -> Callable[[], None]:
        a = jax.device_put(source, runtime.device)
        duplicate = jax.jit(jnp.copy)
        return lambda: jax.block_until_ready(duplicate(a))

    def both(function: Callable, *sizes: tuple[int, ...], state: Any = ()) -> Call:
        """Forward and backward of ``function`` of arrays of these sizes, after ``state``."""
        inputs = runtime.batch(*(np.full(size, 0.5, np.float32) for size in sizes))
        d = jnp.ones_like(jax.eval_shape(function, *state, *inputs))

        # Whatever is not an argument, XLA would compute while it compiles.
        @jax.jit
        def passes(d: Any, state: Any, *inputs: Any) -> Any:
            out, backward = jax.vjp(partial(function, *state), *inputs)
            return out, backward(d)

        return lambda: jax.block_until_ready(passes(d, state, *inputs))

    def parts(config: GPTConfig, B: int, T: int) -> Iterator[tuple[str, int, Call]]:
        stream, heads, wide, logits = _sizes(config, B, T)
        targets = jnp.zeros(logits[0], jnp.int32)
        nothing = nnx.Dropout(0.0)
        weights = B * config.n_heads * T * T
        for name in ("reference", "fused"):
            attention = partial(getattr(jax_impl_gpt2, f"{name}_attention"), dropout=nothing)
            label = "attention" if name == "reference" else "fused attention"
            yield label, weights, both(attention, heads, heads, heads)
        for label, layer in (
            ("matched dropout", jax_impl_dropout.MatchedDropout(RATE)),
            ("native dropout", nnx.Dropout(RATE, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))),
        ):
            graphdef, state = nnx.split(layer)
            call = partial(_merged, graphdef)
            yield label, math.prod(stream), both(call, stream, state=(state,))
        yield "GELU", math.prod(wide), both(partial(nnx.gelu, approximate=True), wide)
        yield (
            "loss",
            math.prod(logits),
            both(lambda x: jax_impl_loss.cross_entropy(x, targets), logits),
        )

    return products, copy, parts


def _merged(graphdef: Any, state: Any, x: Any) -> Any:
    """The module that ``graphdef`` and ``state`` make, of ``x``."""
    from flax import nnx

    return nnx.merge(graphdef, state, copy=True)(x)
