import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Spectral(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(0.2 * torch.randn(4, 4, 5, dtype=torch.cfloat))

    def forward(self, x):
        f = torch.fft.rfft(x, norm="ortho")
        y = torch.zeros_like(f)
        y[..., :5] = torch.einsum("bim,iom->bom", f[..., :5], self.weight)
        return torch.fft.irfft(y, n=x.shape[-1], norm="ortho")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.spectral = Spectral()
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.spectral(x)))


class JaxSpectral(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.zeros((4, 4, 5), complex))

    def __call__(self, x):
        f = jnp.fft.rfft(x, norm="ortho")
        y = (
            jnp.zeros_like(f)
            .at[..., :5]
            .set(jnp.einsum("bim,iom->bom", f[..., :5], self.weight[...]))
        )
        return jnp.fft.irfft(y, n=x.shape[-1], norm="ortho")


class Port(nnx.Module):
    def __init__(self, rngs):
        self.spectral = JaxSpectral(rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.spectral(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 4, 16))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
