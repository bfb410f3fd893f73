"""Unrolled layers against a scan over layers in JAX: times to compile and to run."""

import math
import time
from collections.abc import Iterator
from statistics import median

from bench.harness import frameworks, machine, programs
from bench.harness.foreign import Batch, Model, Native, Tensor, TensorFn
from bench.harness.frameworks import Framework
from bench.harness.records import Json, Record
from bench.studies.study import Study, StudyOptions, of_record, shared


def markdown(record: Record) -> str:
    """A table of trace, compile and run times of both ways."""
    rows = [
        "| layers | trace and lower | compile | loss and gradients |",
        "|---|---|---|---|",
    ]
    for row in record["rows"]:
        rows.append(
            f"| {row['layers']} | {row['trace_s']:.2f} s | {row['compile_s']:.2f} s "
            f"| {row['step_s']:.3f} s |"
        )
    return "\n".join(rows)


REPEATS = 5


def measure(options: StudyOptions) -> Record:
    """Time both ways at the size that the options name."""
    framework = frameworks.one("jax")
    device = "cuda" if "cuda" in framework.runtime.devices() else "cpu"
    rows = _measured(framework, options.preset or "124m", device)
    return Record(machine.environment((framework,), device), {"rows": rows})


def lines(record: Record) -> Iterator[str]:
    """Both ways, a line each."""
    for row in record["rows"]:
        yield (
            f"{row['layers']:>8}: trace and lower {row['trace_s']:.2f} s, "
            f"compile {row['compile_s']:.2f} s, loss and gradients {row['step_s']:.3f} s"
        )


def _measured(framework: Framework, preset: str, device: str) -> list[dict[str, Json]]:
    """Trace, compile and run times of loss and gradients in float32, both ways.

    Raises ``RuntimeError`` if the two ways do not compute the same loss.
    """
    import jax
    from flax import nnx

    program = programs.gpt2(preset)
    runtime = framework.runtime.configure("float32", device)
    model = program.build(framework, runtime)
    model.eval()
    batch = runtime.batch(*program.batches[0])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def unrolled(params: Native, *batch: Tensor) -> Tensor:
        return framework.gpt2.loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    rows, losses = [], []
    scanned, stacked = _scanned(framework, model)
    for name, loss, start in (("unrolled", unrolled, params), ("scan", scanned, stacked)):
        times, value = _times(jax.value_and_grad(loss), start, batch)
        rows.append({"layers": name, "preset": preset, **times})
        losses.append(float(value))
    if not math.isclose(*losses, rel_tol=1e-5):
        raise RuntimeError(f"the two ways differ: {losses}")
    return rows


def _scanned(framework: Framework, model: Model) -> tuple[TensorFn, Native]:
    """The same loss with the blocks' parameters stacked and one block compiled."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    blocks = [nnx.split(block, nnx.Param, ...) for block in model.h]
    block_def, _, block_rest = blocks[0]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params for _, params, _ in blocks))

    class Scan(nnx.Module):
        """Stands in for the list of blocks: iterating over it yields one scan over all."""

        def __init__(self, params: Native) -> None:
            self.params = nnx.data(params)

        def __iter__(self) -> Iterator[TensorFn]:
            def body(x: Tensor, params: Native) -> tuple[Tensor, None]:
                return nnx.merge(block_def, params, block_rest)(x), None

            yield lambda x: jax.lax.scan(body, x, self.params)[0]

    model.h = Scan(stack)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: Native, *batch: Tensor) -> Tensor:
        return framework.gpt2.loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    return loss, params


def _times(gradient: TensorFn, params: Native, batch: Batch) -> tuple[dict[str, float], Tensor]:
    import jax

    started = time.perf_counter()
    lowered = jax.jit(gradient).lower(params, *batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    ready = time.perf_counter()
    steps = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        value, _ = jax.block_until_ready(compiled(params, *batch))  # type: ignore[no-untyped-call]
        steps.append(time.perf_counter() - begun)
    times = {"trace_s": traced - started, "compile_s": ready - traced, "step_s": median(steps)}
    return times, value


STUDY = Study(
    name="compile",
    claim="Unrolled layers run faster than a scan, which compiles faster",
    sources=(
        *(f"jax_impl/{name}.py" for name in ("gpt2", "loss", "dropout", "params", "runtime")),
        *shared("config"),
        "bench/studies/scan_or_unroll.py::_scanned",
        "bench/studies/scan_or_unroll.py::_times",
    ),
    measure=measure,
    lines=lines,
    accepts=("preset",),
    blocks={"compile": of_record(markdown)},
)
