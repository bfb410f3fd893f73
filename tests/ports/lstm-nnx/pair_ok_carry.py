import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 2)
        with torch.no_grad():  # one bias is enough
            self.lstm.bias_hh_l0 += self.lstm.bias_ih_l0
            self.lstm.bias_ih_l0.zero_()

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(4, 6, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        zero = jnp.zeros((x.shape[0], 6), x.dtype)  # the default carry is float32
        return self.head(self.rnn(x, initial_carry=(zero, zero)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 4))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={
        "lstm.weight_ih_l0": [
            "rnn.cell.ii.kernel",
            "rnn.cell.if_.kernel",
            "rnn.cell.ig.kernel",
            "rnn.cell.io.kernel",
        ],
        "lstm.weight_hh_l0": [
            "rnn.cell.hi.kernel",
            "rnn.cell.hf.kernel",
            "rnn.cell.hg.kernel",
            "rnn.cell.ho.kernel",
        ],
        "lstm.bias_hh_l0": [
            "rnn.cell.hi.bias",
            "rnn.cell.hf.bias",
            "rnn.cell.hg.bias",
            "rnn.cell.ho.bias",
        ],
        "lstm.bias_ih_l0": None,
    },
)
