"""``SimpleNet`` 10-5-1 in PyTorch: the smallest network with every step of training in it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SimpleNet(nn.Module):
    """Linear 10 to 5, ReLU, Linear 5 to 1, sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(10, 5)
        self.fc2 = nn.Linear(5, 1)

    def logits(self, x: Float[Tensor, "B 10"]) -> Float[Tensor, "B 1"]:
        """The output before the sigmoid."""
        return self.fc2(F.relu(self.fc1(x)))

    def forward(self, x: Float[Tensor, "B 10"]) -> Float[Tensor, "B 1"]:
        return torch.sigmoid(self.logits(x))


def loss_fn(
    model: SimpleNet, x: Float[Tensor, "B 10"], y: Float[Tensor, "B 1"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "B 1"]]:
    """Mean binary cross-entropy in nats, taken from the logits, and the probabilities."""
    logits = model.logits(x)
    return F.binary_cross_entropy_with_logits(logits, y), torch.sigmoid(logits)


def accumulated_gradients(
    model: SimpleNet, batches: list[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Gradient of the batches' summed loss: each ``backward()`` adds to what ``.grad`` holds."""
    model.zero_grad()
    for x, y in batches:
        loss, _ = loss_fn(model, x, y)
        loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def uncleared_gradients(model: SimpleNet, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The gradient of a second step that forgot ``zero_grad()``: the first one is still in it."""
    model.zero_grad()
    for _ in range(2):
        loss, _ = loss_fn(model, x, y)
        loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}
