"""Decoding with a key/value cache in PyTorch: allocated once, then written to in place.

Shape letters: B batch, T time, C width, H heads, D head size (C = H D), V vocabulary, S cache
length.
"""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from shared.sampling import Sampling, choose, pad
from torch_impl.gpt2 import GPT2, CausalSelfAttention
from torch_impl.params import to_numpy
from torch_impl.runtime import Runtime


class Cache(NamedTuple):
    """The keys and values of every layer; heads come before time, as the products want them."""

    keys: list[Float[Tensor, "B H S D"]]
    values: list[Float[Tensor, "B H S D"]]


def new_cache(model: GPT2, batch_size: int, length: int) -> Cache:
    """Room for ``length`` positions a row, in the model's dtype, where the model is."""
    blocks: Any = model.h  # a ModuleList does not say what modules it holds
    weight, H = model.wte.weight, blocks[0].attn.n_heads
    shape = (batch_size, H, length, weight.shape[1] // H)

    def room() -> list[Tensor]:
        return [torch.zeros(shape, dtype=weight.dtype, device=weight.device) for _ in blocks]

    return Cache(keys=room(), values=room())


def attend(
    attn: CausalSelfAttention,
    x: Float[Tensor, "B T C"],
    positions: Int[Tensor, "B T"],
    seen: Bool[Tensor, "B 1 T S"],
    keys: Float[Tensor, "B H S D"],
    values: Float[Tensor, "B H S D"],
) -> Float[Tensor, "B T C"]:
    """Each of ``positions`` attends to what it has ``seen``, in ``x`` or in the cache."""
    B, T, C = x.shape
    q, k, v = attn.c_attn(x).chunk(3, dim=-1)
    q, k, v = (z.reshape(B, T, attn.n_heads, -1) for z in (q, k, v))  # (B, T, H, D)
    rows = torch.arange(B, device=x.device)[:, None]
    # Indices on both sides of a slice put their own axes first: (B, T, H, D) is what is written.
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
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    copy = deepcopy(model, shared)
    head = copy.wte if copy.lm_head is None else copy.lm_head
    for module in (m for m in copy.modules() if m is head or isinstance(m, nn.Linear)):
        weight: Tensor = module.weight.detach()
        out, into = weight.shape
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and out > into:
            module.weight = nn.Parameter(weight.T.contiguous().T, requires_grad=False)
    return copy


@torch.inference_mode()
def decode(
    model: GPT2,
    cache: Cache,
    tokens: Int[Tensor, "B T"],
    positions: Int[Tensor, "B T"],
    last: Int[Tensor, "B"],
) -> Float[Tensor, "B V"]:
    """Logits for what follows the token at index ``last`` of each row; the cache is written to.

    One function for the prompt, T tokens at once, and for every later token, T = 1.
    """
    x = model.wte(tokens) + model.wpe(positions)  # (B, T, C)
    # No more of the cache than is in use: a step costs what its position makes it cost.
    S = int(positions.max()) + 1
    # Hides the future, and with it what the padding of a shorter prompt has written there.
    seen = torch.arange(S, device=x.device) <= positions[:, None, :, None]  # (B, 1, T, S)
    blocks: Any = model.h
    for block, keys, values in zip(blocks, *cache, strict=True):
        keys, values = keys[:, :, :S], values[:, :, :S]  # views: writing to them is writing there
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
    """The token that follows each prompt, then the one after it, ``new_tokens`` times.

    A text depends on its prompt, the sampling and, where that draws, its place among the prompts.
    Raises ``ValueError``, here and not at the first token, for prompts that the model cannot take.
    """
    if model.training:
        raise ValueError("the model is in training mode, with dropout: call model.eval() first")
    sizes = {"vocab_size": model.wte.num_embeddings, "context_length": model.wpe.num_embeddings}
    tokens, lengths = pad(prompts, new_tokens, **sizes)
    return _generate(model, tokens, lengths, new_tokens, sampling, runtime)


def _generate(
    model: GPT2,
    tokens: Int[np.ndarray, "B T"],
    lengths: Int[np.ndarray, "B"],
    new_tokens: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Int[np.ndarray, "B"]]:
    B, T = tokens.shape
    cache = new_cache(model, B, T + new_tokens)
    positions, last = np.tile(np.arange(T), (B, 1)), lengths - 1
    for i in range(new_tokens):
        logits = decode(model, cache, *runtime.batch(tokens, positions, last))
        noise = sampling.noise(i, logits.shape)  # drawn while a GPU is still computing
        ids = choose(to_numpy(logits), noise, sampling)
        yield ids
        tokens, positions, last = ids[:, None], (lengths + i)[:, None], np.zeros_like(lengths)
