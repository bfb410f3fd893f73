"""Defaults of layers that differ."""

import numpy as np

from bench.harness.foreign import Array
from bench.studies.defaults.difference import Difference, distance, values


def layer_norm() -> Difference:
    """Measure the epsilon of LayerNorm."""
    import torch
    from flax import nnx

    x = 0.01 * values(8, 16)  # what an embedding of small numbers gives a norm
    torch_side, jax_side = torch.nn.LayerNorm(16).double(), nnx.LayerNorm(16, rngs=nnx.Rngs(0))
    a = torch_side(torch.tensor(x)).detach().numpy()
    advised = nnx.LayerNorm(16, epsilon=torch_side.eps, use_fast_variance=False, rngs=nnx.Rngs(0))
    return Difference(
        topic="LayerNorm's epsilon",
        torch=f"{torch_side.eps:g}",
        jax=f"{jax_side.epsilon:g}",
        effect="outputs for inputs with a deviation of 0.01",
        size=distance(a, jax_side(x)),
        left=distance(a, advised(x)),
        how="nnx.LayerNorm(C, epsilon=1e-5)",
    )


def fast_variance() -> Difference:
    """Measure how LayerNorm computes a variance."""
    import jax
    import torch
    from flax import nnx

    x = (30.0 + values(8, 64)).astype(np.float32)
    exact = (x - x.mean(-1, keepdims=True, dtype=np.float64)) / np.sqrt(
        x.var(-1, keepdims=True, dtype=np.float64) + 1e-5
    )
    with jax.enable_x64(False):
        fast = nnx.LayerNorm(64, epsilon=1e-5, rngs=nnx.Rngs(0))
        slow = nnx.LayerNorm(64, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))
        found, better = np.asarray(fast(x)), np.asarray(slow(x))
    torch_side = torch.nn.LayerNorm(64)(torch.tensor(x)).detach().numpy()
    return Difference(
        topic="How LayerNorm finds a variance",
        torch="E[(x - E[x])²]",
        jax="E[x²] - E[x]²",
        effect="float32's error at a mean of 30 deviations; "
        f"PyTorch's: {distance(exact, torch_side):.0e}",
        size=distance(exact, found),
        left=distance(exact, better),
        how="nnx.LayerNorm(C, use_fast_variance=False)",
    )


def gelu() -> Difference:
    """Measure the form of GELU."""
    import jax
    import torch

    x = values(1000)
    a = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    return Difference(
        topic="GELU",
        torch="by erf",
        jax="by tanh",
        effect="outputs for normal inputs",
        size=distance(a, jax.nn.gelu(x)),
        left=distance(a, jax.nn.gelu(x, approximate=False)),
        how='jax.nn.gelu(x, approximate=False), or F.gelu(x, approximate="tanh")',
    )


def convolution() -> Difference:
    """Measure the padding of a convolution."""
    import torch
    from flax import nnx

    x = values(1, 2, 6, 6)
    torch_side = torch.nn.Conv2d(2, 3, 3).double()
    state = {name: value.numpy() for name, value in torch_side.state_dict().items()}
    a = np.moveaxis(torch_side(torch.tensor(x)).detach().numpy(), 1, -1)

    def port(**settings: str) -> Array:
        module = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), **settings)
        module.kernel.set_value(state["weight"].transpose(2, 3, 1, 0))
        module.bias.set_value(state["bias"])
        return np.asarray(module(np.moveaxis(x, 1, -1)))

    default = port()
    return Difference(
        topic="padding of a convolution",
        torch="none",
        jax='"SAME"',
        effect=f"images of 6 x 6 become {default.shape[1]} x {default.shape[2]}, "
        f"not {a.shape[1]} x {a.shape[2]}; pixels more, as a share",
        size=default.size / a.size - 1,
        left=distance(a, port(padding="VALID")),
        how='nnx.Conv(..., padding="VALID"), channels last',
    )


def batch_norm() -> Difference:
    """Measure BatchNorm's momentum."""
    import torch
    from flax import nnx

    x = (3.0 + values(16, 4)).astype(np.float32)
    torch_side = torch.nn.BatchNorm1d(4)
    torch_side(torch.tensor(x))
    a = torch_side.state_dict()["running_mean"].numpy()

    def mean(**settings: float) -> Array:
        module = nnx.BatchNorm(4, rngs=nnx.Rngs(0), **settings)
        module(x)
        return np.asarray(module.mean[...])

    return Difference(
        topic="BatchNorm's momentum",
        torch=f"{torch_side.momentum:g}, the share that is new",
        jax=f"{nnx.BatchNorm(4, rngs=nnx.Rngs(0)).momentum:g}, the share that stays",
        effect="the running mean after one batch",
        size=distance(a, mean()),
        left=distance(a, mean(momentum=0.9)),
        how="nnx.BatchNorm(C, momentum=0.9)",
    )


def running_variance() -> Difference:
    """Measure BatchNorm's running variance."""
    import torch
    from flax import nnx

    x = values(8, 4).astype(np.float32)
    torch_side = torch.nn.BatchNorm1d(4, momentum=1.0)
    torch_side(torch.tensor(x))
    module = nnx.BatchNorm(4, momentum=0.0, rngs=nnx.Rngs(0))
    module(x)
    a, b, n = torch_side.state_dict()["running_var"].numpy(), np.asarray(module.var[...]), len(x)
    return Difference(
        topic="BatchNorm's running variance",
        torch="over n - 1",
        jax="over n",
        effect="the variance that is kept of a batch of 8",
        size=distance(a, b),
        left=distance(a, b * n / (n - 1)),
        how="multiply what is imported by n / (n - 1), or leave it: in evaluation it is a scale",
    )


def _initial(topic: str, torch_side: Array, jax_side: Array, names: tuple[str, str]) -> Difference:
    ratio = float(jax_side.std() / torch_side.std())
    return Difference(
        topic=topic,
        torch=f"{names[0]}, deviation {torch_side.std():.3f}",
        jax=f"{names[1]}, deviation {jax_side.std():.3f}",
        effect="the deviation at the start, as a share",
        size=abs(ratio - 1),
        left=0.0,
        how="initialise both from the same NumPy arrays",
    )


def linear_start() -> Difference:
    """Measure the initial weights of a Linear."""
    import torch
    from flax import nnx

    torch.manual_seed(0)
    torch_side = torch.nn.Linear(512, 256).weight.detach().numpy()
    jax_side = np.asarray(nnx.Linear(512, 256, rngs=nnx.Rngs(0)).kernel[...])
    return _initial(
        "a Linear's weights at the start",
        torch_side,
        jax_side,
        ("uniform within 1/√in", "normal, 1/√in"),
    )


def embedding_start() -> Difference:
    """Measure the initial rows of an Embedding."""
    import torch
    from flax import nnx

    torch.manual_seed(0)
    torch_side = torch.nn.Embedding(512, 256).weight.detach().numpy()
    jax_side = np.asarray(nnx.Embed(512, 256, rngs=nnx.Rngs(0)).embedding[...])
    return _initial(
        "an Embedding's rows at the start", torch_side, jax_side, ("normal, 1", "normal, 1/√C")
    )


def pooling() -> Difference:
    """Measure the strides of a pooling layer."""
    import jax.numpy as jnp
    import torch
    from flax import nnx

    images = values(1, 1, 8, 8)
    torch_side = torch.nn.functional.max_pool2d(torch.tensor(images), 2).numpy()
    last = jnp.asarray(images).transpose(0, 2, 3, 1)
    jax_side = nnx.max_pool(last, (2, 2))
    advised = nnx.max_pool(last, (2, 2), strides=(2, 2)).transpose(0, 3, 1, 2)
    a, b = torch_side.shape[-1], jax_side.shape[1]
    return Difference(
        topic="strides of pooling",
        torch="the window's size",
        jax="1",
        effect=f"images of 8 x 8 become {b} x {b}, not {a} x {a}; pixels more, as a share",
        size=(b * b - a * a) / (a * a),
        left=distance(torch_side, advised),
        how="nnx.max_pool(x, (2, 2), strides=(2, 2))",
    )


def resize() -> Difference:
    """Measure what is done before an image is made smaller."""
    import jax
    import torch

    images = values(1, 1, 8, 8)
    torch_side = torch.nn.functional.interpolate(
        torch.tensor(images), scale_factor=0.5, mode="bilinear"
    ).numpy()
    jax_side = jax.image.resize(images, (1, 1, 4, 4), "bilinear")
    advised = jax.image.resize(images, (1, 1, 4, 4), "bilinear", antialias=False)
    return Difference(
        topic="making an image smaller",
        torch="its pixels as they are",
        jax="smoothed first",
        effect="an image of noise at half its size",
        size=distance(torch_side, jax_side),
        left=distance(torch_side, advised),
        how="jax.image.resize(..., antialias=False), or F.interpolate(..., antialias=True)",
    )
