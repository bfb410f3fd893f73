import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

P = 2  # the side of a patch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3 * P * P, 8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):  # (B, C, H, W)
        B, C, H, W = x.shape
        x = x.view(B, C, H // P, P, W // P, P).permute(0, 2, 4, 1, 3, 5)
        y = self.embed(x.reshape(B, H // P * (W // P), C * P * P))
        return self.head(torch.relu(y).mean(1))


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):  # (B, C, H, W)
        B, C, H, W = x.shape
        x = x.reshape(B, C, H // P, P, W // P, P).transpose(0, 2, 4, 1, 3, 5)
        y = nn.Dense(8, name="embed")(x.reshape(B, -1, C * P * P))
        return nn.Dense(4, name="head")(nn.relu(y).mean(1))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
pair = Pair(
    torch=Net,
    jax=lambda: (Port(), Port().init(jax.random.key(0), jnp.zeros((1, 3, 4, 6)))),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
)
