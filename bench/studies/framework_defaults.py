"""Defaults that differ: what either framework does unless told, what that costs, and what to write.

Every row is computed: both defaults are read from the frameworks or seen in what they do, the
effect is measured, and so is what remains of it once the row's advice is followed.
``python -m bench.defaults --json bench/results/defaults-cpu.json`` makes the record.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import frameworks, machine, records
from bench.harness.records import load
from twingrad import numerics


def defaults(argument: str) -> str:
    """What either framework does unless told, and what that costs."""
    lines = ["| | PyTorch | JAX | effect | | so that they agree |", "|---|---|---|---|---|---|"]
    for row in load(argument)["rows"]:
        cells = (row["topic"], row["torch"], row["jax"], row["effect"], f"{row['size']:.2g}")
        advice = row["how"].replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {advice} |")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trap.

    ``effect`` says what the difference does, ``size`` how large it is, relative (L2) unless the
    words say otherwise, and ``left`` what is left of it when ``how`` is followed.
    """

    topic: str
    torch: str
    jax: str
    effect: str
    size: float
    left: float
    how: str


def _apart(a: Any, b: Any) -> float:
    """Relative distance of two results; infinite where only one is finite."""
    ours, theirs = (np.asarray(x, np.float64) for x in (a, b))
    scale = numerics.size(ours).l2
    return float(numerics.distance(ours, theirs).l2 / scale) if scale else float("inf")


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def _layer_norm() -> Row:
    import torch
    from flax import nnx

    x = 0.01 * _values(8, 16)  # what an embedding of small numbers gives a norm
    ours, theirs = torch.nn.LayerNorm(16).double(), nnx.LayerNorm(16, rngs=nnx.Rngs(0))
    a = ours(torch.tensor(x)).detach().numpy()
    set_ = nnx.LayerNorm(16, epsilon=ours.eps, use_fast_variance=False, rngs=nnx.Rngs(0))
    return Row(
        topic="LayerNorm's epsilon",
        torch=f"{ours.eps:g}",
        jax=f"{theirs.epsilon:g}",
        effect="outputs for inputs with a deviation of 0.01",
        size=_apart(a, theirs(x)),
        left=_apart(a, set_(x)),
        how="nnx.LayerNorm(C, epsilon=1e-5)",
    )


def _fast_variance() -> Row:
    import jax
    import torch
    from flax import nnx

    x = (30.0 + _values(8, 64)).astype(np.float32)
    exact = (x - x.mean(-1, keepdims=True, dtype=np.float64)) / np.sqrt(
        x.var(-1, keepdims=True, dtype=np.float64) + 1e-5
    )
    with jax.enable_x64(False):
        fast = nnx.LayerNorm(64, epsilon=1e-5, rngs=nnx.Rngs(0))
        slow = nnx.LayerNorm(64, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))
        found, better = np.asarray(fast(x)), np.asarray(slow(x))
    ours = torch.nn.LayerNorm(64)(torch.tensor(x)).detach().numpy()
    return Row(
        topic="How LayerNorm finds a variance",
        torch="E[(x - E[x])²]",
        jax="E[x²] - E[x]²",
        effect=f"float32's error at a mean of 30 deviations; PyTorch's: {_apart(exact, ours):.0e}",
        size=_apart(exact, found),
        left=_apart(exact, better),
        how="nnx.LayerNorm(C, use_fast_variance=False)",
    )


def _gelu() -> Row:
    import jax
    import torch

    x = _values(1000)
    a = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    return Row(
        topic="GELU",
        torch="by erf",
        jax="by tanh",
        effect="outputs for normal inputs",
        size=_apart(a, jax.nn.gelu(x)),
        left=_apart(a, jax.nn.gelu(x, approximate=False)),
        how='jax.nn.gelu(x, approximate=False), or F.gelu(x, approximate="tanh")',
    )


def _variance() -> Row:
    import jax.numpy as jnp
    import torch

    x = _values(10)
    a = torch.tensor(x).var().numpy()
    return Row(
        topic="var and std",
        torch="over n - 1",
        jax="over n",
        effect="the variance of ten numbers",
        size=_apart(a, jnp.var(x)),
        left=_apart(a, jnp.var(x, ddof=1)),
        how="x.var(correction=0) in PyTorch, or jnp.var(x, ddof=1)",
    )


def _median() -> Row:
    import jax.numpy as jnp
    import torch

    x = np.array([1.0, 2.0, 3.0, 10.0])
    a = torch.tensor(x).median().numpy()
    middle = torch.tensor(x).quantile(0.5).numpy()
    return Row(
        topic="median of an even number",
        torch="the lower of the two in the middle",
        jax="their mean",
        effect="the median of 1, 2, 3, 10",
        size=_apart(a, jnp.median(x)),
        left=_apart(middle, jnp.median(x)),
        how="torch.quantile(x, 0.5)",
    )


def _convolution() -> Row:
    import torch
    from flax import nnx

    x = _values(1, 2, 6, 6)
    ours = torch.nn.Conv2d(2, 3, 3).double()
    state = {name: value.numpy() for name, value in ours.state_dict().items()}
    a = np.moveaxis(ours(torch.tensor(x)).detach().numpy(), 1, -1)

    def port(**settings: Any) -> np.ndarray:
        made = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), **settings)
        made.kernel.set_value(state["weight"].transpose(2, 3, 1, 0))
        made.bias.set_value(state["bias"])
        return np.asarray(made(np.moveaxis(x, 1, -1)))

    default = port()
    return Row(
        topic="padding of a convolution",
        torch="none",
        jax='"SAME"',
        effect=f"images of 6 x 6 become {default.shape[1]} x {default.shape[2]}, "
        f"not {a.shape[1]} x {a.shape[2]}; pixels more, as a share",
        size=default.size / a.size - 1,
        left=_apart(a, port(padding="VALID")),
        how='nnx.Conv(..., padding="VALID"), channels last',
    )


def _batch_norm() -> Row:
    import torch
    from flax import nnx

    x = (3.0 + _values(16, 4)).astype(np.float32)
    ours = torch.nn.BatchNorm1d(4)
    ours(torch.tensor(x))
    a = ours.state_dict()["running_mean"].numpy()

    def mean(**settings: Any) -> np.ndarray:
        made = nnx.BatchNorm(4, rngs=nnx.Rngs(0), **settings)
        made(x)
        return np.asarray(made.mean[...])

    return Row(
        topic="BatchNorm's momentum",
        torch=f"{ours.momentum:g}, the share that is new",
        jax=f"{nnx.BatchNorm(4, rngs=nnx.Rngs(0)).momentum:g}, the share that stays",
        effect="the running mean after one batch",
        size=_apart(a, mean()),
        left=_apart(a, mean(momentum=0.9)),
        how="nnx.BatchNorm(C, momentum=0.9)",
    )


def _running_variance() -> Row:
    import torch
    from flax import nnx

    x = _values(8, 4).astype(np.float32)
    ours = torch.nn.BatchNorm1d(4, momentum=1.0)
    ours(torch.tensor(x))
    made = nnx.BatchNorm(4, momentum=0.0, rngs=nnx.Rngs(0))
    made(x)
    a, b, n = ours.state_dict()["running_var"].numpy(), np.asarray(made.var[...]), len(x)
    return Row(
        topic="BatchNorm's running variance",
        torch="over n - 1",
        jax="over n",
        effect="the variance that is kept of a batch of 8",
        size=_apart(a, b),
        left=_apart(a, b * n / (n - 1)),
        how="multiply what is imported by n / (n - 1), or leave it: in evaluation it is a scale",
    )


def _adamw() -> Row:
    import inspect

    import jax
    import optax
    import torch

    start, gradients = _values(50), np.random.default_rng(1).normal(size=(100, 50))

    def ours() -> np.ndarray:
        p = torch.tensor(start, requires_grad=True)
        optimizer = torch.optim.AdamW([p], lr=1e-2)
        for g in gradients:
            p.grad = torch.tensor(g)
            optimizer.step()
        return p.detach().numpy()

    def theirs(**settings: Any) -> np.ndarray:
        rule, p = optax.adamw(1e-2, **settings), jax.numpy.asarray(start)
        state = rule.init(p)
        for g in gradients:
            moved, state = rule.update(jax.numpy.asarray(g), state, p)
            p = optax.apply_updates(p, moved)
        return np.asarray(p)

    a = ours()
    decay = inspect.signature(optax.adamw).parameters["weight_decay"].default
    return Row(
        topic="AdamW's weight decay",
        torch=f"{inspect.signature(torch.optim.AdamW).parameters['weight_decay'].default:g}",
        jax=f"{decay:g}",
        effect="parameters after 100 steps at a rate of 0.01",
        size=_apart(a, theirs()),
        left=_apart(a, theirs(weight_decay=1e-2)),
        how="optax.adamw(rate, weight_decay=0.01, mask=...): both decay gains and biases unasked",
    )


def _clipping() -> Row:
    import jax.numpy as jnp
    import optax
    import torch

    g = np.full(4, 1e-3)
    p = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_([p], 1e-3)
    assert p.grad is not None
    clipped = p.grad.numpy()
    rule = optax.clip_by_global_norm(1e-3)
    theirs = np.asarray(rule.update(jnp.asarray(g), rule.init(g))[0])
    exact = torch.tensor(g) * (1e-3 / torch.tensor(g).norm())
    return Row(
        topic="clipping by the joint norm",
        torch="by the norm and 1e-6",
        jax="by the norm",
        effect="gradients clipped to a norm of 0.001",
        size=_apart(clipped, theirs),
        left=_apart(exact.numpy(), theirs),
        how="in PyTorch, multiply by min(1, most / norm) yourself",
    )


def _initial(topic: str, ours: np.ndarray, theirs: np.ndarray, names: tuple[str, str]) -> Row:
    ratio = float(theirs.std() / ours.std())
    return Row(
        topic=topic,
        torch=f"{names[0]}, deviation {ours.std():.3f}",
        jax=f"{names[1]}, deviation {theirs.std():.3f}",
        effect="the deviation at the start, as a share",
        size=abs(ratio - 1),
        left=0.0,
        how="initialise both from the same NumPy arrays",
    )


def _linear_start() -> Row:
    import torch
    from flax import nnx

    torch.manual_seed(0)
    ours = torch.nn.Linear(512, 256).weight.detach().numpy()
    theirs = np.asarray(nnx.Linear(512, 256, rngs=nnx.Rngs(0)).kernel[...])
    return _initial(
        "a Linear's weights at the start", ours, theirs, ("uniform within 1/√in", "normal, 1/√in")
    )


def _embedding_start() -> Row:
    import torch
    from flax import nnx

    torch.manual_seed(0)
    ours = torch.nn.Embedding(512, 256).weight.detach().numpy()
    theirs = np.asarray(nnx.Embed(512, 256, rngs=nnx.Rngs(0)).embedding[...])
    return _initial("an Embedding's rows at the start", ours, theirs, ("normal, 1", "normal, 1/√C"))


def _integers() -> Row:
    import jax
    import jax.numpy as jnp
    import torch

    with jax.enable_x64(False):
        theirs = jnp.asarray([2**31 - 1]) + 1
    ours = torch.tensor([2**31 - 1]) + 1
    wide = ours.numpy().astype(np.int32)
    return Row(
        topic="Python's integers",
        torch=str(ours.dtype).removeprefix("torch."),
        jax=f"{theirs.dtype}, unless jax_enable_x64 is set",
        effect=f"2147483647 + 1 is {int(ours[0])} and {int(theirs[0])}",
        size=_apart(ours.numpy(), np.asarray(theirs)),
        left=_apart(wide, np.asarray(theirs)),
        how="say the dtype: torch.tensor(x, dtype=torch.int32), or enable x64",
    )


def _float64() -> Row:
    import jax
    import jax.numpy as jnp
    import torch

    x = np.array([1.0 + 2.0**-40])
    with jax.enable_x64(False):
        theirs = jnp.asarray(x)
    with jax.enable_x64(True):
        kept = jnp.asarray(x)
    ours = torch.tensor(x)
    return Row(
        topic="a float64 array from NumPy",
        torch=str(ours.dtype).removeprefix("torch."),
        jax=f"{theirs.dtype}, silently",
        effect="1 + 2⁻⁴⁰, less 1",
        size=_apart(ours.numpy() - 1, np.asarray(theirs, np.float64) - 1),
        left=_apart(ours.numpy() - 1, np.asarray(kept) - 1),
        how='jax.config.update("jax_enable_x64", True), before anything else',
    )


def _out_of_range() -> Row:
    import jax.numpy as jnp
    import torch

    table = np.arange(3.0)
    try:
        torch.tensor(table)[torch.tensor([5])]
        ours = "an answer"
    except IndexError:
        ours = "an error"
    theirs = float(jnp.asarray(table)[jnp.asarray([5])][0])
    return Row(
        topic="an index out of range",
        torch=ours,
        jax=f"the last element, {theirs:g}",
        effect="answers to a wrong question",
        size=1.0,
        left=0.0,
        how="check token ids before they reach either framework",
    )


def _saturated() -> Row:
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    z = 120.0
    ours = torch.nn.functional.binary_cross_entropy(
        torch.sigmoid(torch.tensor(z)), torch.tensor(0.0)
    )
    with jax.enable_x64(False):
        a = jax.nn.sigmoid(jnp.float32(z))
        theirs = -jnp.log(1 - a)
    logits = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(z), torch.tensor(0.0)
    )
    stable = optax.sigmoid_binary_cross_entropy(jnp.asarray(z), jnp.asarray(0.0))
    return Row(
        topic="binary cross-entropy of a saturated sigmoid",
        torch=f"{float(ours):g}: its logarithm stops at -100",
        jax=f"{float(theirs):g}, as written",
        effect=f"a loss that should be {z:g}; PyTorch is short by",
        size=_apart(z, float(ours)),
        left=_apart(float(logits), float(stable)),
        how="binary_cross_entropy_with_logits, optax.sigmoid_binary_cross_entropy",
    )


def _cross_entropy() -> Row:
    import jax.numpy as jnp
    import optax
    import torch

    logits, targets = _values(6, 5), np.arange(6) % 5
    ours = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets))
    theirs = optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(logits), jnp.asarray(targets)
    )
    return Row(
        topic="what a cross-entropy returns",
        torch="the mean, without targets of -100",
        jax=f"all {theirs.size} losses, with every target",
        effect="the sum that a careless port takes, against the mean",
        size=_apart(float(ours), float(theirs.sum())),
        left=_apart(float(ours), float(theirs.mean())),
        how="mask and average yourself in JAX",
    )


MAKERS: tuple[Callable[[], Row], ...] = (
    _layer_norm,
    _fast_variance,
    _gelu,
    _variance,
    _median,
    _convolution,
    _batch_norm,
    _running_variance,
    _adamw,
    _clipping,
    _linear_start,
    _embedding_start,
    _integers,
    _float64,
    _out_of_range,
    _saturated,
    _cross_entropy,
)


def measured(make: Callable[[], Row]) -> Row:
    """One row, computed in float64 where nothing else is said."""
    import jax

    with jax.enable_x64(True):
        return make()


def main(argv: Sequence[str] | None = None) -> int:
    """Compute every row and write the record."""
    parser = argparse.ArgumentParser(description="Defaults that differ, measured.")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    pair = frameworks.both()
    rows = [asdict(measured(make)) for make in MAKERS]
    environment = machine.environment(pair, "cpu")
    records.write_json(arguments.json, {"environment": environment, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
