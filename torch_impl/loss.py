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
    wide = logits.to(_wide(logits)).flatten(0, -2)
    return F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def chunked_loss(
    x: Float[Tensor, "N C"], weight: Float[Tensor, "V C"], targets: Int[Tensor, "N"], chunk: int
) -> Float[Tensor, ""]:
    """Head and cross-entropy, whose gradients are taken on the way forward.

    Only ``chunk`` positions' logits exist at once, and nothing is computed twice. Where a gradient
    is asked for, it can be asked for once.
    """
    if torch.is_grad_enabled():
        return _ChunkedLoss.apply(x, weight, targets, chunk)
    parts = zip(x.split(chunk), targets.split(chunk), strict=True)
    return torch.stack([cross_entropy(F.linear(z, weight), y) for z, y in parts]).sum()


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        losses, dx = [], torch.empty_like(x)
        dweight = torch.zeros_like(weight, dtype=_wide(weight))
        pieces = (z.split(chunk) for z in (x, dx, targets))
        for part, dpart, y in zip(*pieces, strict=True):
            loss, d = _differentiated(F.linear(part, weight), y)
            losses.append(loss)
            torch.mm(d, weight, out=dpart)
            if dweight.dtype == d.dtype:
                dweight.addmm_(d.T, part)  # without room for the product
            else:
                dweight += d.T @ part
        ctx.save_for_backward(dx, dweight)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:
        dx, dweight = ctx.saved_tensors
        # In float32 at least: PyTorch would round the scalar to the dtype of what it multiplies.
        dx = (dx.to(dweight.dtype) * d[0]).to(dx.dtype)
        return dx, dweight.mul_(d[0]).to(dx.dtype), None, None


def _differentiated(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss, and its gradient with respect to the logits: softmax minus one at the target."""
    # Written out, so that it overwrites what it is made of. XLA does so with what it derives.
    counts = (targets != IGNORED)[:, None]
    index = targets[:, None].clamp(min=0)
    logs = torch.log_softmax(logits, dim=-1, dtype=_wide(logits))
    loss = -(logs.gather(1, index) * counts).sum()
    d = logs.exp_()
    d.scatter_add_(1, index, -torch.ones_like(index, dtype=d.dtype)).mul_(counts)
    return loss, d.to(logits.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
