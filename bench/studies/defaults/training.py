"""Defaults of losses and optimizers that differ."""

import numpy as np

from bench.harness.foreign import Array
from bench.studies.defaults.difference import Difference, distance, values


def adamw() -> Difference:
    """Measure AdamW's weight decay."""
    import inspect

    import jax
    import optax
    import torch

    start, gradients = values(50), np.random.default_rng(1).normal(size=(100, 50))

    def torch_side() -> Array:
        p = torch.tensor(start, requires_grad=True)
        optimizer = torch.optim.AdamW([p], lr=1e-2)
        for g in gradients:
            p.grad = torch.tensor(g)
            optimizer.step()
        return p.detach().numpy()

    def jax_side(**settings: float) -> Array:
        rule, p = optax.adamw(1e-2, **settings), jax.numpy.asarray(start)
        state = rule.init(p)
        for g in gradients:
            moved, state = rule.update(jax.numpy.asarray(g), state, p)
            p = optax.apply_updates(p, moved)
        return np.asarray(p)

    a = torch_side()
    decay = inspect.signature(optax.adamw).parameters["weight_decay"].default
    return Difference(
        topic="AdamW's weight decay",
        torch=f"{inspect.signature(torch.optim.AdamW).parameters['weight_decay'].default:g}",
        jax=f"{decay:g}",
        effect="parameters after 100 steps at a rate of 0.01",
        size=distance(a, jax_side()),
        left=distance(a, jax_side(weight_decay=1e-2)),
        how="optax.adamw(rate, weight_decay=0.01, mask=...): both decay gains and biases unasked",
    )


def clipping() -> Difference:
    """Measure clipping by the joint norm."""
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
    jax_side = np.asarray(rule.update(jnp.asarray(g), rule.init(g))[0])
    exact = torch.tensor(g) * (1e-3 / torch.tensor(g).norm())
    return Difference(
        topic="clipping by the joint norm",
        torch="by the norm and 1e-6",
        jax="by the norm",
        effect="gradients clipped to a norm of 0.001",
        size=distance(clipped, jax_side),
        left=distance(exact.numpy(), jax_side),
        how="in PyTorch, multiply by min(1, most / norm) yourself",
    )


def saturated() -> Difference:
    """Measure binary cross-entropy of a saturated sigmoid."""
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    z = 120.0
    torch_side = torch.nn.functional.binary_cross_entropy(
        torch.sigmoid(torch.tensor(z)), torch.tensor(0.0)
    )
    with jax.enable_x64(False):
        a = jax.nn.sigmoid(jnp.float32(z))
        jax_side = -jnp.log(1 - a)
    logits = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(z), torch.tensor(0.0)
    )
    stable = optax.sigmoid_binary_cross_entropy(jnp.asarray(z), jnp.asarray(0.0))
    return Difference(
        topic="binary cross-entropy of a saturated sigmoid",
        torch=f"{float(torch_side):g}: its logarithm stops at -100",
        jax=f"{float(jax_side):g}, as written",
        effect=f"a loss that should be {z:g}; PyTorch is short by",
        size=distance(z, float(torch_side)),
        left=distance(float(logits), float(stable)),
        how="binary_cross_entropy_with_logits, optax.sigmoid_binary_cross_entropy",
    )


def cross_entropy() -> Difference:
    """Measure what a cross-entropy returns."""
    import jax.numpy as jnp
    import optax
    import torch

    logits, targets = values(6, 5), np.arange(6) % 5
    torch_side = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets))
    jax_side = optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(logits), jnp.asarray(targets)
    )
    return Difference(
        topic="what a cross-entropy returns",
        torch="the mean, without targets of -100",
        jax=f"all {jax_side.size} losses, with every target",
        effect="the sum that a careless port takes, against the mean",
        size=distance(float(torch_side), float(jax_side.sum())),
        left=distance(float(torch_side), float(jax_side.mean())),
        how="mask and average yourself in JAX",
    )
