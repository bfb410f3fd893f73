"""One neuron in PyTorch: forward, loss, and the gradient by autograd."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Neuron(nn.Module):
    """z = wx + b, a = sigmoid(z), with scalar w and b."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def logit(self, x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """The weighted input z, before the sigmoid."""
        return self.w * x + self.b

    def forward(self, x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        return torch.sigmoid(self.logit(x))


def loss_fn(
    model: Neuron, x: Float[Tensor, "*N"], y: Float[Tensor, "*N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """Mean binary cross-entropy in nats, taken from the logit, and the activation.

    From the logit, the loss stays exact however saturated the sigmoid is. On the activation,
    ``F.binary_cross_entropy`` clamps its logarithms at -100, and its gradient then vanishes.
    """
    z = model.logit(x)
    return F.binary_cross_entropy_with_logits(z, y), torch.sigmoid(z)


def textbook_loss_fn(
    model: Neuron, x: Float[Tensor, "*N"], y: Float[Tensor, "*N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "*N"]]:
    """The textbook form, from the activation, which is wrong where a rounds to 0 or 1."""
    a = model(x)
    return F.binary_cross_entropy(a, y), a


def graph(model: Neuron, x: Float[Tensor, "*N"], y: Float[Tensor, "*N"]) -> str:
    """The graph that autograd recorded: one line a node, from the loss back to the leaves."""
    loss, _ = loss_fn(model, x, y)
    leaves = {id(leaf): name for name, leaf in model.named_parameters()}
    lines: list[str] = []

    def visit(node: torch.autograd.graph.Node | None, depth: int) -> None:
        if node is None:  # x and y require no gradient
            return
        leaf = leaves.get(id(getattr(node, "variable", None)))
        lines.append("  " * depth + node.name() + (f"  ({leaf})" if leaf else ""))
        for parent, _ in node.next_functions:
            visit(parent, depth + 1)

    visit(loss.grad_fn, 0)
    return "\n".join(lines)
