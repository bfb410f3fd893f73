"""Unrolled layers or a scan over layers in JAX: what each costs to compile and to run.

``python -m bench.compile_time --json FILE`` measures both on GPT-2 124M and writes the record on
which the choice rests.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import frameworks, machine, programs, records
from bench.harness.frameworks import Framework
from bench.harness.records import load


def compile_times(argument: str) -> str:
    """Trace, compile and run times of unrolled layers against a scan over layers."""
    report = load(argument)
    lines = [
        "| layers | trace and lower | compile | loss and gradients |",
        "|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['layers']} | {row['trace_s']:.2f} s | {row['compile_s']:.2f} s "
            f"| {row['step_s']:.3f} s |"
        )
    return "\n".join(lines)


REPEATS = 5


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.compile_time", description=__doc__)
    parser.add_argument("--preset", default="124m")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    side = frameworks.one("jax")
    device = "cuda" if "cuda" in side.runtime.devices() else "cpu"
    rows = measure(side, asked.preset, device)
    for row in rows:
        print(
            f"{row['layers']:>8}: trace and lower {row['trace_s']:.2f} s, "
            f"compile {row['compile_s']:.2f} s, loss and gradients {row['step_s']:.3f} s"
        )
    if asked.json:
        content = {"environment": machine.environment((side,), device), "rows": rows}
        records.write_json(asked.json, content)
    return 0


def measure(side: Framework, preset: str, device: str) -> list[dict[str, Any]]:
    """Trace, compile and run times of loss and gradients in float32, both ways.

    Raises ``AssertionError`` if the two ways do not compute the same loss.
    """
    import jax
    from flax import nnx

    program = programs.gpt2(preset)
    runtime = side.runtime.configure("float32", device)
    model = program.build(side, runtime)
    model.eval()
    batch = runtime.batch(*program.batches[0])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def unrolled(params: Any, *batch: Any) -> Any:
        return side.gpt2.loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    rows, losses = [], []
    scanned, stacked = _scanned(side, model)
    for name, loss, start in (("unrolled", unrolled, params), ("scan", scanned, stacked)):
        times, value = _times(jax.value_and_grad(loss), start, batch)
        rows.append({"layers": name, "preset": preset, **times})
        losses.append(float(value))
    assert math.isclose(*losses, rel_tol=1e-5), f"the two ways differ: {losses}"
    return rows


def _scanned(side: Framework, model: Any) -> tuple[Callable, Any]:
    """The same loss with the blocks' parameters stacked and one block compiled."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    blocks = [nnx.split(block, nnx.Param, ...) for block in model.h]
    block_def, _, block_rest = blocks[0]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params for _, params, _ in blocks))

    class Scan(nnx.Module):
        """Stands in for the list of blocks: iterating over it yields one scan over all."""

        def __init__(self, params: Any) -> None:
            self.params = nnx.data(params)

        def __iter__(self) -> Any:
            def body(x: Any, params: Any) -> tuple[Any, None]:
                return nnx.merge(block_def, params, block_rest)(x), None

            yield lambda x: jax.lax.scan(body, x, self.params)[0]

    model.h = Scan(stack)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: Any, *batch: Any) -> Any:
        return side.gpt2.loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    return loss, params


def _times(gradient: Callable, params: Any, batch: tuple) -> tuple[dict[str, float], Any]:
    import jax

    started = time.perf_counter()
    lowered = jax.jit(gradient).lower(params, *batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    ready = time.perf_counter()
    steps = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        value, _ = jax.block_until_ready(compiled(params, *batch))
        steps.append(time.perf_counter() - begun)
    times = {"trace_s": traced - started, "compile_s": ready - traced, "step_s": median(steps)}
    return times, value


if __name__ == "__main__":
    sys.exit(main())
