"""Numerical traps that the gates found, each measured: a framework's default and its effect."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from bench.harness import frameworks, machine, programs
from bench.harness.foreign import Array, Tensor
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.records import Record
from bench.studies.study import Study, StudyOptions, of_record, shared, twins
from shared.schedule import learning_rate
from twingrad import numerics
from twingrad.numerics import UNIT_ROUNDOFF


@dataclass(frozen=True)
class Trap:
    """A default, what it does, the number that shows it, and that number in words."""

    default: str
    effect: str
    value: float
    measured: str


def measure(options: StudyOptions) -> Record:
    """Measure every trap."""
    both = frameworks.both()
    rows = [asdict(trap(both)) for trap in TRAPS]
    return Record(machine.environment(both, "cpu"), {"rows": rows})


def lines(record: Record) -> Iterator[str]:
    """Every trap in a line."""
    for row in record["rows"]:
        yield f"{row['default']}: {row['effect']}: {row['measured']}"


def markdown(record: Record) -> str:
    """A table of every trap and its measured effect."""
    table = ["| default | what it does | measured |", "|---|---|---|"]
    for row in record["rows"]:
        table.append(f"| {row['default']} | {row['effect']} | {row['measured']} |")
    return "\n".join(table)


def relative_error(result: Tensor, truth: Tensor) -> float:
    """The relative L2 error of ``result``."""
    exact = np.asarray(truth, dtype=np.float64)
    return numerics.distance(np.asarray(result), exact).l2 / numerics.size(exact).l2


def fused_attention_in_float64(both: Frameworks) -> Trap:
    """JAX's fused attention takes its softmax in float32, whatever dtype it is given."""
    import jax
    from flax import nnx

    _, jax_side = both
    runtime = jax_side.runtime.configure("float64", "cpu")
    shape = (2, 64, 4, 16)  # (B, T, H, D)
    draws = np.random.default_rng(0).standard_normal((3, *shape))
    q, k, v = runtime.batch(*draws)
    fused = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    exact = jax_side.gpt2.reference_attention(q, k, v, nnx.Dropout(0.0))
    error = relative_error(fused, exact)
    return Trap(
        "`jax.nn.dot_product_attention`",
        "takes the softmax in float32 even for float64 inputs",
        error,
        f"relative error {error:.1e} in float64",
    )


def embed_keeps_its_dtype(both: Frameworks) -> Trap:
    """Flax's Embed rounds float64 parameters to the dtype it was made with."""
    from flax import nnx

    _, jax_side = both
    runtime = jax_side.runtime.configure("float64", "cpu")
    embed = nnx.Embed(16, 8, rngs=nnx.Rngs(0))
    table = np.random.default_rng(0).standard_normal((16, 8))
    embed.embedding.set_value(runtime.batch(table)[0])
    error = relative_error(embed(*runtime.batch(np.arange(16))), table)
    return Trap(
        "`nnx.Embed`",
        "rounds float64 parameters to the dtype it was made with; `nnx.Linear` does not",
        error,
        f"relative error {error:.1e} in float64",
    )


def counter_divided(both: Frameworks) -> Trap:
    """An int32 step counter divided by an integer is float32 in JAX, even with x64 on."""
    import jax.numpy as jnp

    both[1].runtime.configure("float64", "cpu")
    config = programs.simple_net().optimizers["adamw"]
    counter = jnp.asarray(1, jnp.int32)
    error = abs(float(counter / 3) * 3 - 1)
    shared_error = float(learning_rate(counter, config, jnp)) / float(learning_rate(1, config)) - 1
    if abs(shared_error) > 4 * UNIT_ROUNDOFF["float64"]:
        raise RuntimeError(f"the shared schedule has lost digits: {shared_error:.1e}")
    return Trap(
        "optax's int32 step counter",
        "divided by an integer is float32, even with `jax_enable_x64`",
        error,
        f"relative error of one third {error:.1e}",
    )


def norm_of_a_large_gradient(both: Frameworks) -> Trap:
    """PyTorch's float32 vector_norm on a CPU, by which clip_grad_norm_ clips."""
    import torch

    both[0].runtime.configure("float32", "cpu")
    gradient = np.random.default_rng(0).standard_normal((50257, 768), dtype=np.float32) * 1e-4
    exact = numerics.size(gradient).l2
    tensor = torch.from_numpy(gradient)
    error = abs(float(torch.linalg.vector_norm(tensor)) / exact - 1)
    rows = torch.linalg.vector_norm(tensor, dim=-1)
    by_row = abs(float(torch.linalg.vector_norm(rows)) / exact - 1)
    return Trap(
        "`torch.linalg.vector_norm`, so `clip_grad_norm_`",
        "is short on a CPU for a float32 gradient of the size of GPT-2's token embedding",
        error,
        f"relative error {error:.1e}, against {by_row:.1e} row by row",
    )


def gradient_of_the_head(both: Frameworks) -> Trap:
    """Cross-entropy's gradient through the head: as the frameworks derive it, and in chunks."""
    exact = features_gradient(both[0], "float64", 0)
    unit = UNIT_ROUNDOFF["float32"]
    errors = {
        chunk: [relative_error(features_gradient(one, "float32", chunk), exact) for one in both]
        for chunk in (0, 64)
    }
    whole, chunked = ([error / unit for error in errors[chunk]] for chunk in (0, 64))
    return Trap(
        "the gradient of cross-entropy through GPT-2's head",
        "is one product with softmax minus one: that one outweighs the other 50,256 terms of its "
        "sum, and rounds them away; `loss.py` takes it off after the product where chunks are "
        "asked for",
        max(whole),
        f"features' gradient {whole[0]:.1f} u in PyTorch and {whole[1]:.1f} u in JAX, "
        f"against {chunked[0]:.2f} u and {chunked[1]:.2f} u",
    )


def features_gradient(framework: Framework, dtype: str, chunk: int) -> Array:
    """The gradient of a GPT-2 head's features; a chunk of 0 takes the loss at once."""
    runtime, random = framework.runtime.configure(dtype, "cpu"), np.random.default_rng(0)
    draws = random.standard_normal((64, 64)), 0.02 * random.standard_normal((50257, 64))
    x, weight, y = runtime.batch(*draws, random.integers(50257, size=64))

    def loss_of(x: Tensor) -> Tensor:
        if chunk:
            return framework.loss.chunked_loss(x, weight, y, chunk)
        return framework.loss.cross_entropy(x @ weight.T, y)

    return framework.gradient(loss_of, x)


TRAPS: tuple[Callable[[Frameworks], Trap], ...] = (
    fused_attention_in_float64,
    embed_keeps_its_dtype,
    counter_divided,
    norm_of_a_large_gradient,
    gradient_of_the_head,
)
STUDY = Study(
    name="findings",
    claim="What frameworks' defaults do to a result, found by the gates",
    sources=(
        *(f"bench/studies/numerical_traps.py::{trap.__name__}" for trap in TRAPS),
        "bench/studies/numerical_traps.py::features_gradient",
        *twins("gpt2", "loss"),
        *shared("schedule"),
    ),
    measure=measure,
    lines=lines,
    blocks={"findings": of_record(markdown)},
)
