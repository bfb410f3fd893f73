"""Ceilings: the rates of matrix products, copies and other parts of a step, each alone.

No training step can be faster than these. Each framework's calls are in ``backends``.
"""

import math
import time
from statistics import median

from bench.speed.ceiling_calls import Call, CeilingCalls
from bench.speed.contestants import alone
from bench.speed.messages import MeasureCeilings
from bench.speed.results import Ceiling, Part, Product
from bench.speed.scheduler import WorkerHandle, temporary_folder
from bench.speed.worker_process import WORK_S
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


def measure(request: MeasureCeilings) -> Ceiling:
    """Rates of every product (best and median of REPEATS, FLOP/s) and of a copy (bytes/s).

    A rate is of the products' nominal arithmetic, two operations a multiply-add; a copy's bytes are
    counted once read and once written. Other parts are timed in elements/s (median).
    """
    calls = _calls(request)
    products = []
    for name, (m, k, n) in shapes(request.config, request.batch_size * request.length).items():
        seconds = times(calls.product(m, k, n))
        operations = 2 * m * k * n
        rates = operations / min(seconds), operations / median(seconds)
        products.append(Product(name, (m, k, n), *rates))
    seconds = times(calls.copy(COPIED // 4))
    parts = calls.parts(request.config, request.batch_size, request.length)
    return Ceiling(
        framework=request.framework,
        fast=request.fast,
        products=tuple(products),
        parts=tuple(
            Part(part.name, part.elements, part.elements / median(times(part.call)))
            for part in (parts if request.parts else ())
        ),
        copy_bytes_per_s=2 * COPIED / min(seconds),
    )


def _calls(request: MeasureCeilings) -> CeilingCalls:
    if request.framework == "torch":
        from bench.speed.torch_ceilings import TorchCalls

        return TorchCalls(request)
    from bench.speed.jax_ceilings import JaxCalls

    return JaxCalls(request)


def measure_in_process(
    request: MeasureCeilings, wait_s: float = WORK_S, deadline: float = math.inf
) -> Ceiling:
    """The ceilings of a framework in a process of its own.

    Raises ``Failed``, and ``BudgetSpent`` after ``deadline`` (``time.monotonic``).
    """
    worker = WorkerHandle(contestant=alone(request.framework), deadline=deadline)
    with temporary_folder([worker]) as folder:
        worker.start(folder)
        return worker.ask(request, wait_s)


def times(call: Call) -> list[float]:
    """Seconds of each of ``REPEATS`` calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return seconds
