import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y)


class LSTM(nnx.Module):
    def __init__(self):
        self.weight_ih_l0 = nnx.Param(jnp.zeros((24, 4)))
        self.weight_hh_l0 = nnx.Param(jnp.zeros((24, 6)))
        self.bias_ih_l0 = nnx.Param(jnp.zeros(24))
        self.bias_hh_l0 = nnx.Param(jnp.zeros(24))

    def __call__(self, x):
        h = c = jnp.zeros((x.shape[0], 6), x.dtype)
        states = []
        for t in range(x.shape[1]):
            gates = x[:, t] @ self.weight_ih_l0[...].T + self.bias_ih_l0[...]
            gates = gates + h @ self.weight_hh_l0[...].T + self.bias_hh_l0[...]
            i, o, f, g = jnp.split(gates, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            states.append(h)
        return jnp.stack(states, 1)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.lstm = LSTM()
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.lstm(x))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 4))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"lstm.bias_ih_l0": "lstm.bias_ih_l0", "lstm.bias_hh_l0": "lstm.bias_hh_l0"},
)
