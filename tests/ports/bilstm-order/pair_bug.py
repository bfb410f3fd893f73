import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Direction(nn.Module):
    @nn.compact
    def __call__(self, x):
        w_i = self.param("w_i", nn.initializers.ones, (4, 20))
        w_h = self.param("w_h", nn.initializers.ones, (5, 20))
        b_i, b_h = (self.param(name, nn.initializers.zeros, (20,)) for name in ("b_i", "b_h"))

        def step(carry, now):
            h, c = carry
            i, f, g, o = jnp.split(now @ w_i + b_i + h @ w_h + b_h, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((len(x), 5), x.dtype)
        return jnp.moveaxis(jax.lax.scan(step, (zeros, zeros), jnp.moveaxis(x, 1, 0))[1], 0, 1)


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        ahead = Direction(name="ahead")(x)
        back = Direction(name="back")(x[:, ::-1])
        return nn.Dense(3, name="head")(jnp.concatenate([ahead, back], -1))


def loss(model, x):
    return (model(x) ** 2).mean()


WAYS = {"ahead": "l0", "back": "l0_reverse"}
KINDS = {"w_i": "weight_ih", "w_h": "weight_hh", "b_i": "bias_ih", "b_h": "bias_hh"}
x = np.random.default_rng(0).normal(size=(2, 6, 4))
pair = Pair(
    torch=Net,
    jax=lambda: (Port(), Port().init(jax.random.key(0), jnp.zeros((1, 6, 4)))),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={
        f"rnn.{theirs}_{end}": f"{way}.{ours}"
        for way, end in WAYS.items()
        for ours, theirs in KINDS.items()
    },
)
