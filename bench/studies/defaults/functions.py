"""Defaults of functions that differ: what they do with what they are not told."""

import warnings

import numpy as np
from numpy.typing import NDArray

from bench.studies.defaults.difference import Difference, distance, values


def token_out_of_range() -> Difference:
    """Measure what an Embedding gives for a token that it has no row for."""
    import jax.numpy as jnp
    import torch
    from flax import nnx

    rows = nnx.Embed(3, 4, rngs=nnx.Rngs(0))
    table = torch.tensor(np.asarray(rows.embedding[...]))
    try:
        torch.nn.functional.embedding(torch.tensor([5]), table)
        torch_side = "an answer"
    except IndexError:
        torch_side = "an error"
    answer = np.asarray(rows(jnp.asarray([5])))
    return Difference(
        topic="a token out of range in an Embedding",
        torch=torch_side,
        jax=f"{answer[0, 0]:g} in every place",
        effect="the share of the vector that is NaN",
        size=float(np.isnan(answer).mean()),
        left=distance(table[2].numpy(), rows(jnp.clip(jnp.asarray(5), 0, 2))),
        how="check token ids before they reach either framework",
    )


def written_out_of_range() -> Difference:
    """Measure what becomes of a value that is written behind the end."""
    import jax.numpy as jnp
    import torch

    x = torch.zeros(3)
    try:
        x[torch.tensor([5])] = 1.0
        torch_side = "an answer"
    except IndexError:
        torch_side = "an error"
    written = jnp.zeros(3).at[5].set(1.0)
    longer = jnp.zeros(6).at[5].set(1.0)
    return Difference(
        topic="writing out of range",
        torch=torch_side,
        jax="nothing is written, silently" if not written.any() else "something is written",
        effect="the share of what should have been written that is lost",
        size=1.0 - float(written.sum()),
        left=1.0 - float(longer.sum()),
        how="check indices before they reach either framework",
    )


def bucket_at_an_edge() -> Difference:
    """Measure the bucket of a number that lies on an edge."""
    import jax.numpy as jnp
    import torch

    edges = np.array([1.0, 2.0, 3.0])
    x = np.array([1.0, 2.0, 3.0])
    torch_side = torch.bucketize(torch.tensor(x), torch.tensor(edges)).numpy()
    jax_side = jnp.digitize(x, edges)
    advised = jnp.searchsorted(edges, x)
    return Difference(
        topic="the bucket of a number on an edge",
        torch=f"the lower one: {torch_side[0]} for the first edge",
        jax=f"the upper one: {jax_side[0]} for the first edge",
        effect="the buckets of three edges, bucketize against digitize",
        size=distance(torch_side, jax_side),
        left=distance(torch_side, advised),
        how="jnp.searchsorted(edges, x)",
    )


def similarity_of_zeros() -> Difference:
    """Measure the cosine similarity of a vector of zeros."""
    import jax.numpy as jnp
    import optax
    import torch

    x, zeros = values(4), np.zeros(4)
    torch_side = torch.nn.functional.cosine_similarity(torch.tensor(x), torch.tensor(zeros), dim=0)
    jax_side = optax.cosine_similarity(jnp.asarray(x), jnp.asarray(zeros))
    advised = optax.cosine_similarity(jnp.asarray(x), jnp.asarray(zeros), epsilon=1e-8)
    return Difference(
        topic="the cosine similarity of a vector of zeros",
        torch=f"{float(torch_side):g}: norms are at least 1e-8",
        jax=f"{float(jax_side):g}: epsilon is 0",
        effect="the share of the answer that is NaN in JAX alone",
        size=float(np.isnan(jax_side)) - float(np.isnan(torch_side.numpy())),
        left=abs(float(torch_side) - float(advised)),
        how="optax.cosine_similarity(x, y, epsilon=1e-8)",
    )


def divergence() -> Difference:
    """Measure what the mean of a KL divergence is taken over."""
    import jax.numpy as jnp
    import optax
    import torch

    logits = torch.tensor(values(6, 5))
    log_p, target = torch.log_softmax(logits, -1), torch.softmax(logits.flip(0), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that its mean is not that of the mathematics
        torch_side = torch.nn.functional.kl_div(log_p, target)
    batch_mean = torch.nn.functional.kl_div(log_p, target, reduction="batchmean")
    jax_side = optax.kl_divergence(jnp.asarray(log_p.numpy()), jnp.asarray(target.numpy())).mean()
    return Difference(
        topic="the mean of a KL divergence",
        torch="over examples and classes",
        jax="over examples, of sums over classes",
        effect="the mean divergence of six examples of five classes",
        size=distance(float(torch_side), float(jax_side)),
        left=distance(float(batch_mean), float(jax_side)),
        how='F.kl_div(log_p, target, reduction="batchmean")',
    )


def nearest_pixels() -> Difference:
    """Measure which pixels a resizing to the nearest takes."""
    import jax
    import torch

    images = values(1, 1, 8, 8)
    tensor = torch.tensor(images)
    torch_side = torch.nn.functional.interpolate(tensor, size=(5, 5), mode="nearest").numpy()
    advised = torch.nn.functional.interpolate(tensor, size=(5, 5), mode="nearest-exact").numpy()
    jax_side = jax.image.resize(images, (1, 1, 5, 5), "nearest")
    return Difference(
        topic="the nearest pixel",
        torch="counted from the upper left corner of pixels",
        jax="counted from the middle of pixels",
        effect="an image of noise, from 8 x 8 to 5 x 5",
        size=distance(torch_side, jax_side),
        left=distance(advised, jax_side),
        how='F.interpolate(..., mode="nearest-exact")',
    )


def unused_parameter() -> Difference:
    """Measure what weight decay makes of a parameter that the loss does not use."""
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    start = values(4)

    def torch_side(*, zeros: bool) -> NDArray[np.float64]:
        p = torch.tensor(start, requires_grad=True)
        rule = torch.optim.AdamW([p], lr=0.01, weight_decay=0.1)
        for _ in range(100):
            p.grad = torch.zeros_like(p) if zeros else None
            rule.step()
        return p.detach().numpy()

    p = jnp.asarray(start)
    rule = optax.adamw(0.01, weight_decay=0.1)
    state = rule.init(p)
    for _ in range(100):
        gradient = jax.grad(lambda p: jnp.asarray(0.0))(p)
        updates, state = rule.update(gradient, state, p)
        p = optax.apply_updates(p, updates)
    return Difference(
        topic="the gradient of a parameter that is not used",
        torch="None: an optimizer leaves it alone",
        jax="zeros: AdamW decays it",
        effect="an unused parameter after 100 steps at a rate of 0.01 and a decay of 0.1",
        size=distance(torch_side(zeros=False), p),
        left=distance(torch_side(zeros=True), p),
        how="in PyTorch, p.grad = torch.zeros_like(p) where it is None",
    )
