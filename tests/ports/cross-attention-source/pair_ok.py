import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

H, D = 2, 4


class Cross(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (torch.nn.Linear(8, 8) for _ in range(4))

    def forward(self, x, memory):
        q = self.q(x).unflatten(-1, (H, D)).transpose(1, 2)
        k, v = (f(memory).unflatten(-1, (H, D)).transpose(1, 2) for f in (self.k, self.v))
        weights = (q @ k.transpose(-1, -2) / D**0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(8, 8)
        self.cross = Cross()
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x, source):
        memory = torch.tanh(self.encoder(source))
        return self.head(x + self.cross(x, memory) + memory)


class JaxCross(nn.Module):
    @nn.compact
    def __call__(self, x, memory):
        q = nn.Dense(8, name="q")(x).reshape(*x.shape[:2], H, D)
        k, v = (nn.Dense(8, name=n)(memory).reshape(*memory.shape[:2], H, D) for n in "kv")
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / D**0.5)
        y = jnp.einsum("bhts,bshd->bthd", weights, v)
        return nn.Dense(8, name="o")(y.reshape(x.shape))


class Port(nn.Module):
    @nn.compact
    def __call__(self, x, source):
        memory = jnp.tanh(nn.Dense(8, name="encoder")(source))
        y = JaxCross(name="cross")(x, memory)
        return nn.Dense(3, name="head")(x + y + memory)


def loss(model, x, source):
    return (model(x, source) ** 2).mean()


rng = np.random.default_rng(0)
x, source = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 8))
pair = Pair(
    torch=Net,
    jax=lambda: (
        Port(),
        Port().init(jax.random.key(0), jnp.zeros((2, 5, 8)), jnp.zeros((2, 5, 8))),
    ),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x, source),
)
