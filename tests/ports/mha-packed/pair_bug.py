import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(12, 3, batch_first=True)
        torch.nn.init.normal_(self.attn.in_proj_bias)
        torch.nn.init.normal_(self.attn.out_proj.bias)

    def forward(self, x, pad):  # pad: 1 where there is nothing
        return x + self.attn(x, x, x, key_padding_mask=pad == 1, need_weights=False)[0]


class Port(nnx.Module):
    def __init__(self, rngs):
        self.attn = nnx.MultiHeadAttention(3, 12, decode=False, rngs=rngs)

    def __call__(self, x, pad):
        return x + self.attn(x, mask=(pad == 1)[:, None, None])  # Flax's mask says who stays


def loss(model, x, pad):
    return (model(x, pad) ** 2).mean()


pad = np.zeros((2, 5), int)
pad[1, 3:] = 1
x = np.random.default_rng(0).normal(size=(2, 5, 12))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x, pad),
    names={
        "attn.in_proj_weight": ["attn.query.kernel", "attn.key.kernel", "attn.value.kernel"],
        "attn.in_proj_bias": ["attn.query.bias", "attn.key.bias", "attn.value.bias"],
        "attn.out_proj.weight": "attn.out.kernel",
        "attn.out_proj.bias": "attn.out.bias",
    },
)
