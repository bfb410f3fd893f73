import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 8, rngs=rngs)
        self.b = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


def torch_loss(model, x, y):
    logs = model(x).log_softmax(-1)
    return torch.nn.functional.kl_div(logs, y, reduction="batchmean")


def jax_loss(model, x, y):
    logs = jax.nn.log_softmax(model(x))
    return optax.kl_divergence(jnp.log(y), jnp.exp(logs)).mean()


random = np.random.default_rng(0)
x = random.normal(size=(6, 4))
y = random.dirichlet(np.ones(5), size=6)
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x, y),
    names={"0.weight": "a.kernel", "2.weight": "b.kernel"},
)
