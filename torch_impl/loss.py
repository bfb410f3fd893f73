"""Cross-entropy from logits, or from the head in chunks of positions, in PyTorch.

Shape letters: N positions, C width, V vocabulary, P vocabulary with padding.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx

from shared.config import ALIGNMENT, IGNORED


def cross_entropy(logits: Float[Tensor, "*N V"], targets: Int[Tensor, "*N"]) -> Float[Tensor, ""]:
    """Sum of the cross-entropies in nats over the positions whose target is not ``IGNORED``."""
    # In float32 at least: the 8 bits of bfloat16 are too few for a log-sum-exp over V terms.
    wide = logits.to(_wide(logits)).flatten(0, -2)
    return F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def head_loss(
    x: Float[Tensor, "N C"], weight: Float[Tensor, "V C"], targets: Int[Tensor, "N"], chunk: int
) -> Float[Tensor, ""]:
    """Summed cross-entropy in nats of the head's logits, ``chunk`` positions at a time; 0: all.

    ``weight`` is rounded to the dtype of ``x``.
    """
    weight = weight.to(x.dtype)
    if chunk:
        return chunked_loss(x, weight, targets, chunk)
    logits = F.linear(x, _aligned(weight))
    return cross_entropy(_unpadded(logits, len(weight)), targets)


def chunked_loss(
    x: Float[Tensor, "N C"], weight: Float[Tensor, "V C"], targets: Int[Tensor, "N"], chunk: int
) -> Float[Tensor, ""]:
    """Summed cross-entropy in nats of the head's logits; gradients are computed going forward.

    Logits of ``chunk`` positions exist at once, and nothing is computed twice. ``backward()`` can
    be called once.
    """
    if torch.is_grad_enabled():
        return _ChunkedLoss.apply(x, weight, targets, chunk)
    parts = zip(x.split(chunk), targets.split(chunk), strict=True)
    return torch.stack([head_loss(z, weight, y, 0) for z, y in parts]).sum()


class _Context(FunctionCtx):
    """Context of an autograd function: values saved by ``forward`` for ``backward``."""

    dtype: torch.dtype
    saved_tensors: tuple[Tensor, ...]


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: FunctionCtx, x: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> Tensor:
        ctx = cast(_Context, context)
        losses, dx = [], torch.empty_like(x, dtype=_wide(x))
        padded = _aligned(weight)
        dweight = torch.zeros_like(padded, dtype=_wide(weight))
        pieces = (z.split(chunk) for z in (x, dx, targets))
        for part, dpart, y in zip(*pieces, strict=True):
            loss, share, e = _softmax(part, padded, y, len(weight))
            losses.append(loss)
            dpart.copy_(e.T @ padded * share)
            scaled = (part * share).to(e.dtype)
            if dweight.dtype == e.dtype:
                dweight.addmm_(e, scaled)  # without memory for the product
            else:
                dweight += e @ scaled
        # The logits' gradient is the softmax, minus one at the target. The one is subtracted here:
        # in a product it would outweigh the other V terms of the sum, and round them away.
        counts, index = (targets != IGNORED)[:, None], targets.clamp(min=0)
        dx -= weight[index] * counts
        dweight.index_add_(0, index, (x * counts).to(dweight.dtype), alpha=-1)
        dweight = dweight[: len(weight)]
        ctx.save_for_backward(dx, dweight)
        ctx.dtype = x.dtype
        return torch.stack(losses).sum()

    @staticmethod
    def backward(context: FunctionCtx, *d: Tensor) -> tuple[Tensor | None, ...]:
        ctx = cast(_Context, context)
        dx, dweight = (z.mul_(d[0]).to(ctx.dtype) for z in ctx.saved_tensors)
        return dx, dweight, None, None


def _softmax(
    x: Float[Tensor, "N C"], weight: Float[Tensor, "P C"], targets: Int[Tensor, "N"], vocab: int
) -> tuple[Float[Tensor, ""], Float[Tensor, "N 1"], Float[Tensor, "P N"]]:
    """Summed loss, and the softmax as two factors: one for each position, and exponentials.

    Only the first ``vocab`` of P rows are tokens; the exponentials of the others are 0.
    """
    # Vocabulary first: rows of V, an odd number, would not be aligned, which slows the products.
    logits = (weight @ x.T).to(_wide(x))  # (P, N)
    logits[vocab:] = -torch.inf
    counts, index = targets != IGNORED, targets.clamp(min=0)
    top, chosen = logits.amax(0), logits.gather(0, index[None])[0]
    e = logits.sub_(top).exp_()  # in place, as XLA does by itself
    total = e.sum(0)
    loss = torch.where(counts, total.log() + top - chosen, 0.0).sum()
    return loss, (counts / total)[:, None], e.to(x.dtype)


def _aligned(weight: Float[Tensor, "V C"]) -> Float[Tensor, "P C"]:
    """A 16-bit ``weight`` with rows of zeros up to a multiple of ``ALIGNMENT``; others as they are.

    A GPU multiplies 16-bit matrices faster if their sizes are such multiples.
    """
    rest = -len(weight) % ALIGNMENT
    return F.pad(weight, (0, 0, 0, rest)) if rest and weight.dtype.itemsize == 2 else weight


def _unpadded(logits: Float[Tensor, "N P"], vocab: int) -> Float[Tensor, "N V"]:
    """The logits without those of the padding, which are in no loss and have no gradient."""
    return logits[:, :vocab] if logits.shape[1] > vocab else logits


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
