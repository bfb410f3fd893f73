"""Decoding with a key/value cache in PyTorch, which is allocated once and updated in place.

Shape letters: B batch, T time, C width, H heads, D head size (C = H D), V vocabulary, S cache
length.
"""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from shared.sampling import Sampling, append, choose, pad, window
from torch_impl.gpt2 import GPT2, Block, CausalSelfAttention
from torch_impl.params import to_numpy
from torch_impl.runtime import Runtime


class Cache(NamedTuple):
    """The keys and values of every layer; heads come before time, for the matrix products."""

    keys: list[Float[Tensor, "B H S D"]]
    values: list[Float[Tensor, "B H S D"]]


def new_cache(model: GPT2, batch_size: int, length: int) -> Cache:
    """An empty cache for ``length`` positions a row, in the model's dtype and on its device."""
    weight, H = model.wte.weight, _blocks(model)[0].attn.n_heads
    shape = (batch_size, H, length, weight.shape[1] // H)

    def room() -> list[Tensor]:
        return [torch.zeros(shape, dtype=weight.dtype, device=weight.device) for _ in model.h]

    return Cache(keys=room(), values=room())


def attend(
    attn: CausalSelfAttention,
    x: Float[Tensor, "B T C"],
    positions: Int[Tensor, "B T"],
    seen: Bool[Tensor, "B 1 T S"],
    keys: Float[Tensor, "B H S D"],
    values: Float[Tensor, "B H S D"],
) -> Float[Tensor, "B T C"]:
    """Attention of each of ``positions`` to those that ``seen`` allows; ``x`` joins the cache."""
    B, T, C = x.shape
    q, k, v = attn.c_attn(x).chunk(3, dim=-1)
    q, k, v = (z.reshape(B, T, attn.n_heads, -1) for z in (q, k, v))  # (B, T, H, D)
    rows = torch.arange(B, device=x.device)[:, None]
    # Indices on both sides of a slice put their own axes first: the values are (B, T, H, D).
    keys[rows, :, positions] = k
    values[rows, :, positions] = v
    scores = torch.einsum("bhqd,bhkd->bhqk", q.transpose(1, 2), keys) / math.sqrt(q.shape[-1])
    scores = torch.where(seen, scores, -torch.inf)
    # The softmax runs in float32 at least, as in the model's own attention.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = torch.softmax(scores, dim=-1).to(values.dtype)
    y = torch.einsum("bhqk,bhkd->bqhd", weights, values)
    return attn.c_proj(y.reshape(B, T, C))


def decode_layout(model: GPT2) -> GPT2:
    """A copy of ``model`` for decoding, whose wide weights are stored column by column.

    PyTorch stores a weight as [out, in], and multiplies one row by it as ``out`` dot products. On a
    CPU, in float32 and with out > in, reading it as [in, out] is faster, as Flax stores kernels.
    Only strides differ. All other parameters are shared with ``model``, so do not train the copy.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()}
    copy = deepcopy(model, shared)
    head = copy.wte if copy.lm_head is None else copy.lm_head
    for module in (m for m in copy.modules() if m is head or isinstance(m, nn.Linear)):
        weight: Tensor = module.weight.detach()
        out, into = weight.shape
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and out > into:
            module.weight = nn.Parameter(weight.T.contiguous().T, requires_grad=False)
    return copy


def _blocks(model: GPT2) -> list[Block]:
    """A ``ModuleList`` does not say of which class its modules are."""
    return cast("list[Block]", list(model.h))


@torch.inference_mode()
def decode(
    model: GPT2,
    cache: Cache,
    tokens: Int[Tensor, "B T"],
    positions: Int[Tensor, "B T"],
    last: Int[Tensor, "B"],
) -> Float[Tensor, "B V"]:
    """Logits of the token after index ``last`` of each row; the cache is updated.

    One function for the prompt, T tokens at once, and for every later token, T = 1.
    """
    x = model.wte(tokens) + model.wpe(positions)  # (B, T, C)
    # Only the part of the cache that is in use, so early steps cost less.
    S = int(positions.max()) + 1
    # Hides later positions, and so the padding of shorter prompts too.
    seen = torch.arange(S, device=x.device) <= positions[:, None, :, None]  # (B, 1, T, S)
    for block, keys, values in zip(_blocks(model), *cache, strict=True):
        keys, values = keys[:, :, :S], values[:, :, :S]  # views of the cache
        x = x + attend(block.attn, block.ln_1(x), positions, seen, keys, values)
        x = x + block.mlp(block.ln_2(x))
    rows = torch.arange(len(x), device=x.device)
    x = model.ln_f(x[rows, last])  # (B, C): the head is for the last token alone
    return model.logits(x)


def generate(
    model: GPT2,
    prompts: Sequence[Sequence[int] | np.ndarray],
    new_tokens: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Int[np.ndarray, "B"]]:
    """The next token of each prompt, int64 [B], ``new_tokens`` times.

    Each is drawn from the model's logits on the last tokens of its text, as many as the context
    has. Within the context the cache holds what is known of them. Past it every token moves one
    position down, which changes all keys and values, so that they are computed again at each step.
    A text depends on its prompt, the sampling and, if that draws, its place among the prompts.
    Raises ``ValueError``, at the call and not at the first token, for prompts that it cannot take.
    """
    if model.training:
        raise ValueError("the model is in training mode, with dropout: call model.eval() first")
    texts, lengths = pad(prompts, new_tokens, vocab_size=model.wte.num_embeddings)
    return _generate(model, texts, lengths, new_tokens, sampling, runtime)


def _generate(
    model: GPT2,
    texts: Int[np.ndarray, "B N"],
    lengths: Int[np.ndarray, "B"],
    new_tokens: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Int[np.ndarray, "B"]]:
    B, N = texts.shape
    S = min(N + new_tokens, model.wpe.num_embeddings)
    cache = new_cache(model, B, S)
    batch = window(texts, lengths, S)
    for i in range(new_tokens):
        logits = decode(model, cache, *runtime.batch(*batch))
        noise = sampling.noise(i, logits.shape)  # drawn while a GPU still computes
        ids = choose(to_numpy(logits), noise, sampling)
        yield ids
        texts, lengths = append(texts, lengths, ids)
        if lengths.max() <= S:
            batch = ids[:, None], lengths[:, None] - 1, np.zeros_like(lengths)
        else:  # past the context: the whole window, from position 0
            batch = window(texts, lengths, S)
