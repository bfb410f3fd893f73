"""GPT-2 and its loss, in PyTorch.

Shape letters: B batch, T time, C width, H heads, D head size (C = H D), V vocabulary.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.config import IGNORED, LAYER_NORM_EPSILON, GPTConfig
from torch_impl.dropout import MatchedDropout
from torch_impl.loss import cross_entropy, head_loss


def reference_attention(
    q: Float[Tensor, "B T H D"],
    k: Float[Tensor, "B T H D"],
    v: Float[Tensor, "B T H D"],
    dropout: nn.Dropout,
) -> Float[Tensor, "B T H D"]:
    """Causal attention written out, with dropout on the weights."""
    T, D = q.shape[1], q.shape[3]
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
    causal = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
    scores = torch.where(causal, scores, -torch.inf)
    # The softmax runs in float32 at least, as it does in the fused kernels.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = dropout(torch.softmax(scores, dim=-1).to(v.dtype))
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def fused_attention(
    q: Float[Tensor, "B T H D"],
    k: Float[Tensor, "B T H D"],
    v: Float[Tensor, "B T H D"],
    dropout: nn.Dropout,
) -> Float[Tensor, "B T H D"]:
    """The same by PyTorch's kernels, which take heads before time and the dropout rate."""
    # They draw the mask themselves, so matched dropout cannot use them.
    if isinstance(dropout, MatchedDropout) and dropout.training and dropout.p > 0:
        return reference_attention(q, k, v, dropout)
    q, k, v = (z.transpose(1, 2) for z in (q, k, v))  # (B, H, T, D)
    rate = dropout.p if dropout.training else 0.0
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
    return y.transpose(1, 2)


Attention = Callable[[Tensor, Tensor, Tensor, nn.Dropout], Tensor]


class CausalSelfAttention(nn.Module):
    """Every position attends to itself and to the positions before it."""

    def __init__(self, config: GPTConfig, *, attention: Attention):
        super().__init__()
        C = config.emb_dim
        self.n_heads = config.n_heads
        self.attention = attention
        self.c_attn = nn.Linear(C, 3 * C, bias=config.qkv_bias)
        self.c_proj = nn.Linear(C, C)
        self.attn_dropout = nn.Dropout(config.drop_rate)
        self.resid_dropout = nn.Dropout(config.drop_rate)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).chunk(3, dim=-1)
        q, k, v = (z.reshape(B, T, self.n_heads, -1) for z in (q, k, v))  # (B, T, H, D)
        y = self.attention(q, k, v, self.attn_dropout)
        y = y.reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Each position by itself: from width C to 4 C and back."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        C = config.emb_dim
        self.c_fc = nn.Linear(C, 4 * C)
        self.c_proj = nn.Linear(4 * C, C)
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = self.c_fc(x)  # (B, T, 4 C)
        # GPT-2 has the tanh form; PyTorch's default is the exact one with erf.
        x = F.gelu(x, approximate="tanh")
        return self.dropout(self.c_proj(x))


class Block(nn.Module):
    """Pre-norm residual block: x + attention, then x + MLP."""

    def __init__(self, config: GPTConfig, *, attention: Attention):
        super().__init__()
        C = config.emb_dim
        # Written out because the defaults differ: epsilon is 1e-5 here and 1e-6 in Flax.
        self.ln_1 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
        self.attn = CausalSelfAttention(config, attention=attention)
        self.ln_2 = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
        self.mlp = MLP(config)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT2(nn.Module):
    """Token ids in, logits over the next token out; parameters come from ``shared.params``.

    ``recompute`` keeps only each block's input for the backward pass, and computes the rest again.
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        attention: Attention = fused_attention,
        recompute: bool = False,
    ):
        super().__init__()
        C, V = config.emb_dim, config.vocab_size
        self.recompute = recompute
        self.wte = nn.Embedding(V, C)
        self.wpe = nn.Embedding(config.context_length, C)
        self.drop = nn.Dropout(config.drop_rate)
        self.h = nn.ModuleList(Block(config, attention=attention) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(C, eps=LAYER_NORM_EPSILON)
        self.lm_head = None if config.tie_embeddings else nn.Linear(C, V, bias=False)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.logits(self.features(tokens))

    def features(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Input of the head: the residual stream after the last norm."""
        T = tokens.shape[1]
        x = self.wte(tokens) + self.wpe(torch.arange(T, device=tokens.device))  # (B, T, C)
        x = self.drop(x)
        for block in self.h:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.ln_f(x)

    def logits(self, x: Float[Tensor, "*N C"]) -> Float[Tensor, "*N V"]:
        """Unnormalised log-probabilities of the next token."""
        # Tied: the token embedding, transposed, so its gradient has two parts.
        return F.linear(x, self.wte.weight) if self.lm_head is None else self.lm_head(x)


def loss_fn(
    model: GPT2, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "B T V"]]:
    """Mean cross-entropy in nats over the targets that are not ``IGNORED``, and the logits."""
    logits = model(inputs)
    count = (targets != IGNORED).sum()
    return cross_entropy(logits, targets) / count, logits


def summed_loss(
    model: GPT2, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], chunk: int
) -> Float[Tensor, ""]:
    """Summed cross-entropy in nats, with logits of ``chunk`` positions in memory; 0 means all."""
    x, y = model.features(inputs).flatten(0, 1), targets.flatten()  # (B T, C), (B T)
    weight = model.wte.weight if model.lm_head is None else model.lm_head.weight
    return head_loss(x, weight, y, chunk)
