import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 8)
        self.mix = torch.nn.Linear(8, 8)
        self.project = torch.nn.Linear(8, 5, bias=False)

    def forward(self, ids):
        h = torch.tanh(self.mix(self.embed(ids).cumsum(1)))
        end = ids.argmax(1)  # the end-of-text token has the highest number
        return self.project(h[torch.arange(len(ids)), end])


class Port(eqx.Module):
    embed: eqx.nn.Embedding
    mix: eqx.nn.Linear
    project: eqx.nn.Linear

    def __init__(self, key):
        self.embed = eqx.nn.Embedding(10, 8, key=key)
        self.mix = eqx.nn.Linear(8, 8, key=key)
        self.project = eqx.nn.Linear(8, 5, use_bias=False, key=key)

    def __call__(self, ids):  # (T,)
        h = jnp.tanh(jax.vmap(self.mix)(jnp.cumsum(jax.vmap(self.embed)(ids), 0)))
        return self.project(h[-1])


def torch_loss(model, ids):
    return (model(ids) ** 2).mean()


def jax_loss(model, ids):
    return (jax.vmap(model)(ids) ** 2).mean()


ids = np.random.default_rng(0).integers(0, 9, (4, 7))
ids[range(4), [3, 5, 4, 2]] = 9
pair = Pair(
    torch=Net,
    jax=lambda: Port(jax.random.key(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids,),
)
