import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Gated(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Linear(8, 12, bias=False)
        self.up = torch.nn.Linear(8, 12, bias=False)
        self.down = torch.nn.Linear(12, 8, bias=False)

    def forward(self, x):
        return self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Gated()
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.head(x + self.mlp(x))


class JaxGated(hk.Module):
    def __call__(self, x):
        gate, up = (hk.Linear(12, with_bias=False, name=name)(x) for name in ("gate", "up"))
        return hk.Linear(8, with_bias=False, name="down")(gate * jax.nn.silu(up))


def forward(x):
    return hk.Linear(3, name="head")(x + JaxGated(name="mlp")(x))


def make_jax():
    model = hk.without_apply_rng(hk.transform(forward))
    return model, model.init(jax.random.key(0), jnp.zeros((1, 8)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(7, 8))
pair = Pair(
    torch=Net,
    jax=make_jax,
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"mlp.gate.weight": "mlp.gate.w", "mlp.up.weight": "mlp.up.w"},
)
