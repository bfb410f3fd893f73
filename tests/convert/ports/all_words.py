"""A pair whose parameters lie in JAX in every way that ``names`` can state."""

import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair, To

ORDER = (0, 2, 4, 1, 3, 5)


class Net(torch.nn.Module):
    """Parameters of all shapes, tied ones and one that JAX lacks among them."""

    def __init__(self):
        super().__init__()

        def parameter(*shape):
            return torch.nn.Parameter(torch.randn(shape))

        self.qkv = parameter(9, 5)  # cut in three
        self.two = parameter(8)  # the first half alone is in JAX
        self.first, self.second = parameter(4), parameter(4)  # added up
        self.layers = torch.nn.ParameterList([parameter(3, 2) for _ in range(3)])  # stacked
        self.left, self.right = parameter(2, 3), parameter(2, 4)  # one behind the other
        self.window = parameter(4, 3, 2, 2)  # other axes, flipped
        self.heads = parameter(6, 10)  # transposed and cut up
        self.halves = parameter(6, 2)  # permuted
        self.scaled = parameter(7)  # shifted by one
        self.tied = self.halves
        self.alone = parameter(2)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        parts = [
            *self.qkv.chunk(3), self.two[:4], self.first + self.second, *self.layers, self.left,
            self.right, self.window, self.heads, self.halves, self.scaled, self.tied,
        ]  # fmt: skip
        return torch.stack([(part**2).sum() * x for part in parts])


def forward(params, x):
    p = params
    halves = p["halves"][jnp.argsort(jnp.array(ORDER))]
    parts = [
        *(p[name] for name in "qkv"), p["two"], p["sum"], *p["layers"], p["both"][:, :3],
        p["both"][:, 3:], p["window"], p["heads"], halves, p["scaled"] - 1, halves,
    ]  # fmt: skip
    return jnp.stack([(part**2).sum() * x for part in parts])


def make_jax():
    shapes = {
        **dict.fromkeys("qkv", (5, 3)),
        "two": (4,),
        "sum": (4,),
        "layers": (3, 2, 3),
        "both": (2, 7),
        "window": (2, 2, 3, 4),
        "heads": (10, 2, 3),
        "halves": (6, 2),
        "scaled": (7,),
        "extra": (2,),
    }
    return forward, {name: jnp.full(shape, 0.5) for name, shape in shapes.items()}


names = {
    "qkv": To("q", "k", "v").axes(1, 0),
    "two": ["two", None],
    ("first", "second"): To("sum").sum(),
    r"re:layers\.\d+": To("layers").axes(1, 0).stack(),
    ("left", "right"): To("both").as_it_is().concatenate(axis=1),
    "window": To("window").axes(2, 3, 1, 0).flip(0, 1),
    "heads": To("heads").axes(1, 0).reshape(10, 2, 3),
    "halves": To("halves").permute(ORDER),
    "scaled": To("scaled").through(lambda x: x + 1, lambda x: x - 1),
    "alone": None,
    None: ["extra"],
}
pair = Pair(
    torch=Net,
    jax=make_jax,
    torch_loss=lambda model, x: (model(x) ** 2).mean(),
    jax_loss=lambda model, x: (model(x) ** 2).mean(),
    batch=[np.random.default_rng(0).normal(size=(4,))],
    names=names,
)
