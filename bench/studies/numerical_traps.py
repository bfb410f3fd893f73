"""Traps that the gates found, each measured: what a framework's default does to a result.

``python -m bench.findings --json FILE`` writes the record that the documentation shows.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.harness import frameworks, machine, programs, records
from bench.harness.frameworks import Framework
from bench.harness.records import load
from shared.schedule import learning_rate
from twingrad import numerics
from twingrad.numerics import UNIT_ROUNDOFF


def findings(argument: str) -> str:
    """What each trap does to a result, measured."""
    lines = ["| default | what it does | measured |", "|---|---|---|"]
    for row in load(argument)["rows"]:
        lines.append(f"| {row['default']} | {row['effect']} | {row['measured']} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Finding:
    """A default, what it does, the number that shows it, and that number in words."""

    default: str
    effect: str
    value: float
    measured: str


def main(argv: list[str] | None = None) -> int:
    """Measure every trap, print it, and write the record where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.findings", description=__doc__)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    torch, jax = frameworks.both()
    found = [
        fused_attention_in_float64(jax),
        embed_keeps_its_dtype(jax),
        counter_divided(jax),
        fast_variance(jax),
        norm_of_a_large_gradient(torch),
        gradient_of_the_head(torch, jax),
        layer_norm_epsilon(torch),
        gelu_form(torch),
    ]
    for finding in found:
        print(f"{finding.default}: {finding.effect}: {finding.measured}")
    if asked.json:
        rows = [vars(finding) for finding in found]
        content = {"environment": machine.environment((torch, jax), "cpu"), "rows": rows}
        records.write_json(asked.json, content)
    return 0


def _relative(result: Any, truth: Any) -> float:
    exact = np.asarray(truth, dtype=np.float64)
    return numerics.distance(np.asarray(result), exact).l2 / numerics.size(exact).l2


def fused_attention_in_float64(jax: Framework) -> Finding:
    """JAX's fused attention takes its softmax in float32, whatever dtype it is given."""
    import jax as framework

    runtime = jax.runtime.configure("float64", "cpu")
    shape = (2, 64, 4, 16)  # (B, T, H, D)
    draws = np.random.default_rng(0).standard_normal((3, *shape))
    q, k, v = runtime.batch(*draws)
    fused = framework.nn.dot_product_attention(q, k, v, is_causal=True)
    exact = jax.gpt2.reference_attention(q, k, v, lambda weights: weights)
    error = _relative(fused, exact)
    return Finding(
        "`jax.nn.dot_product_attention`",
        "takes the softmax in float32 even for float64 inputs",
        error,
        f"relative error {error:.1e} in float64",
    )


def embed_keeps_its_dtype(jax: Framework) -> Finding:
    """Flax's Embed rounds float64 parameters to the dtype it was made with."""
    from flax import nnx

    runtime = jax.runtime.configure("float64", "cpu")
    embed = nnx.Embed(16, 8, rngs=nnx.Rngs(0))
    table = np.random.default_rng(0).standard_normal((16, 8))
    embed.embedding.set_value(runtime.batch(table)[0])
    error = _relative(embed(*runtime.batch(np.arange(16))), table)
    return Finding(
        "`nnx.Embed`",
        "rounds float64 parameters to the dtype it was made with; `nnx.Linear` does not",
        error,
        f"relative error {error:.1e} in float64",
    )


def counter_divided(jax: Framework) -> Finding:
    """An int32 step counter divided by an integer is float32 in JAX, even with x64 on."""
    import jax.numpy as jnp

    jax.runtime.configure("float64", "cpu")
    config = programs.simple_net().optimizers["adamw"]
    counter = jnp.asarray(1, jnp.int32)
    error = abs(float(counter / 3) * 3 - 1)
    ours = abs(float(learning_rate(counter, config, jnp)) / float(learning_rate(1, config)) - 1)
    assert ours <= 4 * UNIT_ROUNDOFF["float64"], "the shared schedule has lost digits"
    return Finding(
        "optax's int32 step counter",
        "divided by an integer is float32, even with `jax_enable_x64`",
        error,
        f"relative error of one third {error:.1e}",
    )


def fast_variance(jax: Framework) -> Finding:
    """Flax's default variance, E[x²] - E[x]², cancels where the mean is large."""
    from flax import nnx

    runtime = jax.runtime.configure("float32", "cpu")
    x = (1000 + np.random.default_rng(0).standard_normal((64, 256))).astype(np.float32)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    exact = centred / np.sqrt(wide.var(axis=-1, keepdims=True) + 1e-5)
    errors = [
        _relative(
            nnx.LayerNorm(256, epsilon=1e-5, use_fast_variance=fast, rngs=nnx.Rngs(0))(
                *runtime.batch(x)
            ),
            exact,
        )
        for fast in (True, False)
    ]
    return Finding(
        "`nnx.LayerNorm(use_fast_variance=True)`",
        "loses the variance of inputs whose mean is large, here 1000 standard deviations",
        errors[0],
        f"relative error {errors[0]:.1e}, against {errors[1]:.1e} without",
    )


def norm_of_a_large_gradient(torch: Framework) -> Finding:
    """PyTorch's float32 vector_norm on a CPU, by which clip_grad_norm_ clips."""
    import torch as framework

    torch.runtime.configure("float32", "cpu")
    gradient = np.random.default_rng(0).standard_normal((50257, 768), dtype=np.float32) * 1e-4
    exact = numerics.size(gradient).l2
    tensor = framework.from_numpy(gradient)
    error = abs(float(framework.linalg.vector_norm(tensor)) / exact - 1)
    rows = framework.linalg.vector_norm(tensor, dim=-1)
    ours = abs(float(framework.linalg.vector_norm(rows)) / exact - 1)
    return Finding(
        "`torch.linalg.vector_norm`, so `clip_grad_norm_`",
        "is short on a CPU for a float32 gradient of the size of GPT-2's token embedding",
        error,
        f"relative error {error:.1e}, against {ours:.1e} row by row",
    )


def gradient_of_the_head(torch: Framework, jax: Framework) -> Finding:
    """Cross-entropy's gradient through the head, as each framework derives it, and as ours is."""
    exact = _features_gradient(torch, "float64", 0)
    unit = UNIT_ROUNDOFF["float32"]
    whole, ours = (
        [
            _relative(_features_gradient(side, "float32", chunk), exact) / unit
            for side in (torch, jax)
        ]
        for chunk in (0, 64)
    )
    return Finding(
        "the gradient of cross-entropy through GPT-2's head",
        "is one product with softmax minus one: that one outweighs the other 50,256 terms of its "
        "sum, and rounds them away; `loss.py` takes it off after the product where chunks are "
        "asked for",
        max(whole),
        f"features' gradient {whole[0]:.1f} u in PyTorch and {whole[1]:.1f} u in JAX, "
        f"against {ours[0]:.2f} u and {ours[1]:.2f} u",
    )


def _features_gradient(side: Framework, dtype: str, chunk: int) -> np.ndarray:
    """What a head of GPT-2's vocabulary hands back to its features; 0 is the loss taken at once."""
    runtime, random = side.runtime.configure(dtype, "cpu"), np.random.default_rng(0)
    draws = random.standard_normal((64, 64)), 0.02 * random.standard_normal((50257, 64))
    x, weight, y = runtime.batch(*draws, random.integers(50257, size=64))

    def loss_of(x: Any) -> Any:
        if chunk:
            return side.loss.chunked_loss(x, weight, y, chunk)
        return side.loss.cross_entropy(x @ weight.T, y)

    return side.gradient(loss_of, x)


def _edited(torch: Framework, edit: Any) -> float:
    """How far the tiny GPT-2's logits move in float64 when its modules are edited."""
    program = programs.gpt2("tiny")
    runtime = torch.runtime.configure("float64", "cpu")
    logits = []
    for change in (None, edit):
        model = program.build(torch, runtime).eval()
        if change:
            change(model)
        batch = runtime.batch(*program.batches[0])
        logits.append(torch.params.to_numpy(torch.gpt2.loss_fn(model, *batch)[1]))
    return _relative(logits[1], logits[0])


def layer_norm_epsilon(torch: Framework) -> Finding:
    """Flax's default epsilon in a network made with PyTorch's."""
    from torch import nn

    def edit(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6

    moved = _edited(torch, edit)
    return Finding(
        "LayerNorm epsilon",
        "is 1e-5 in PyTorch and 1e-6 in Flax",
        moved,
        f"logits of the tiny GPT-2 move by {moved:.1e}",
    )


def gelu_form(torch: Framework) -> Finding:
    """PyTorch's default GELU, with erf, in a network made with the tanh form."""
    import torch.nn.functional as F

    original = F.gelu
    program = programs.gpt2("tiny")
    runtime = torch.runtime.configure("float64", "cpu")
    model = program.build(torch, runtime).eval()
    batch = runtime.batch(*program.batches[0])
    exact = torch.params.to_numpy(torch.gpt2.loss_fn(model, *batch)[1])
    with mock.patch.object(F, "gelu", lambda x, approximate: original(x)):
        erf = torch.params.to_numpy(torch.gpt2.loss_fn(model, *batch)[1])
    moved = _relative(erf, exact)
    return Finding(
        "GELU",
        "is the erf form in PyTorch and the tanh form in JAX; GPT-2 has tanh",
        moved,
        f"logits of the tiny GPT-2 move by {moved:.1e}",
    )


if __name__ == "__main__":
    sys.exit(main())
