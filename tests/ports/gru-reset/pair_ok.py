import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(4, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x):
        y, _ = self.gru(x)
        return self.head(y)


class GRU(nnx.Module):
    def __init__(self):
        self.weight_ih_l0 = nnx.Param(jnp.zeros((18, 4)))
        self.weight_hh_l0 = nnx.Param(jnp.zeros((18, 6)))
        self.bias_ih_l0 = nnx.Param(jnp.zeros(18))
        self.bias_hh_l0 = nnx.Param(jnp.zeros(18))

    def __call__(self, x):
        h = jnp.zeros((x.shape[0], 6), x.dtype)
        u, c = self.weight_hh_l0[...], self.bias_hh_l0[...]
        states = []
        for t in range(x.shape[1]):
            i = x[:, t] @ self.weight_ih_l0[...].T + self.bias_ih_l0[...]
            g = h @ u.T + c
            r, z = jax.nn.sigmoid(i[:, :6] + g[:, :6]), jax.nn.sigmoid(i[:, 6:12] + g[:, 6:12])
            n = jnp.tanh(i[:, 12:] + r * g[:, 12:])
            h = (1 - z) * n + z * h
            states.append(h)
        return jnp.stack(states, 1)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.gru = GRU()
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.gru(x))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 4))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"gru.bias_ih_l0": "gru.bias_ih_l0", "gru.bias_hh_l0": "gru.bias_hh_l0"},
)
