"""Cross-entropy, whole or with the head in chunks, in PyTorch.

Shape letters: N positions, C width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from shared.config import IGNORED


def cross_entropy(logits: Float[Tensor, "*N V"], targets: Int[Tensor, "*N"]) -> Float[Tensor, ""]:
    """Sum of the cross-entropies in nats over the positions whose target is not ``IGNORED``."""
    # In float32 at least: log-sum-exp over V terms is no work for 8 bits.
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    return F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def chunked_loss(
    x: Float[Tensor, "N C"], weight: Float[Tensor, "V C"], targets: Int[Tensor, "N"], chunk: int
) -> Float[Tensor, ""]:
    """Head and cross-entropy, whose gradients are taken on the way forward.

    Only ``chunk`` positions' logits exist at once, and nothing is computed twice.
    """
    if torch.is_grad_enabled():
        return _ChunkedLoss.apply(x, weight, targets, chunk)
    parts = zip(x.split(chunk), targets.split(chunk), strict=True)
    return torch.stack([_part(weight, *part) for part in parts]).sum()


def _part(weight: Tensor, x: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(F.linear(x, weight), targets)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        losses, dx = [], []
        weight = weight.detach().requires_grad_()
        wide = torch.promote_types(weight.dtype, torch.float32)
        dweight = torch.zeros_like(weight, dtype=wide)
        for part, y in zip(x.split(chunk), targets.split(chunk), strict=True):
            part = part.detach().requires_grad_()
            with torch.enable_grad():
                loss = _part(weight, part, y)
            d, dpart = torch.autograd.grad(loss, (weight, part))
            losses.append(loss.detach())
            dx.append(dpart)
            dweight += d
        ctx.save_for_backward(torch.cat(dx), dweight.to(weight.dtype))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:
        # Else PyTorch would round the scalar to the dtype of what it multiplies.
        dx, dweight = ((d[0] * z.to(d[0].dtype)).to(z.dtype) for z in ctx.saved_tensors)
        return dx, dweight, None, None
