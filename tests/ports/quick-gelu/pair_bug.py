import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(6, 12)
        self.fc2 = torch.nn.Linear(12, 6)

    def forward(self, x):
        h = self.fc1(x)
        return x + self.fc2(h * torch.sigmoid(1.702 * h))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = nnx.Linear(6, 12, rngs=rngs)
        self.fc2 = nnx.Linear(12, 6, rngs=rngs)

    def __call__(self, x):
        h = self.fc1(x)
        return x + self.fc2(nnx.gelu(h, approximate=False))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(4, 6))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"fc1.weight": "fc1.kernel", "fc2.weight": "fc2.kernel"},
)
