"""What a framework reaches on matrix products and copies alone: what no training step can beat."""

import time
from collections.abc import Callable
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
    positions: int,
    dtype: str,
    device: str,
    fast: bool,
) -> dict[str, Any]:
    """Rates of every product (best and median of REPEATS, FLOP/s) and of a copy (bytes/s).

    ``fast`` takes whatever ``tune`` switches on. A rate is of the products' nominal arithmetic, two
    operations a multiply-add; a copy's bytes are counted once read and once written.
    """
    products, copy = {"torch": _torch, "jax": _jax}[framework](dtype, device, fast, config.emb_dim)
    random = np.random.default_rng(0)
    rows = []
    for name, (m, k, n) in shapes(config, positions).items():
        left = random.standard_normal((m, k), np.float32)
        right = random.standard_normal((k, n), np.float32)
        seconds = _times(products(left, right))
        operations = 2 * m * k * n
        rows.append(
            {
                "name": name,
                "shape": [m, k, n],
                "flops_per_s": operations / min(seconds),
                "median_flops_per_s": operations / median(seconds),
            }
        )
    seconds = _times(copy(np.ones(COPIED // 4, np.float32)))
    return {
        "framework": framework,
        "fast": fast,
        "products": rows,
        "copy_bytes_per_s": 2 * COPIED / min(seconds),
    }


def best(ceilings: list[dict[str, Any]]) -> float:
    """The highest rate of any product in any framework, FLOP/s; 0 where none was measured."""
    rates = [row["flops_per_s"] for found in ceilings for row in found["products"]]
    return max(rates, default=0.0)


def _times(call: Callable[[], None]) -> list[float]:
    call()
    found = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


Made = Callable[..., Callable[[], None]]


def _torch(dtype: str, device: str, fast: bool, width: int) -> tuple[Made, Made]:
    import torch

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

    return products, copy


def _jax(dtype: str, device: str, fast: bool, width: int) -> tuple[Made, Made]:
    import jax
    import jax.numpy as jnp

    from jax_impl import runtime as runtimes

    runtime = runtimes.configure(dtype, device)
    if fast:
        runtimes.tune(device, dtype, width)

    def products(left: np.ndarray, right: np.ndarray) -> Callable[[], None]:
        a, b = runtime.batch(left, right)
        multiply = jax.jit(jnp.matmul)
        return lambda: jax.block_until_ready(multiply(a, b))

    def copy(source: np.ndarray) -> Callable[[], None]:
        a = jax.device_put(source, runtime.device)
        duplicate = jax.jit(jnp.copy)
        return lambda: jax.block_until_ready(duplicate(a))

    return products, copy
