"""Masks, gather and scatter, segments, top-k and sort, in PyTorch."""

import torch


def causal_mask(scores):
    T = scores.shape[-1]
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def safe_logarithm(x):
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).log(), 0.0)


def masked_mean(x, mask):
    return (x * mask).sum() / mask.sum()


def masked_max(x, mask):
    return x.masked_fill(~mask, -torch.inf).amax()


def chosen(x, mask):
    return x[mask].sum()


def places(mask):
    return torch.nonzero_static(mask, size=5, fill_value=-1).squeeze(1)


def gather(x, index):
    return torch.gather(x, 1, index)


def scatter(x, index, values):
    return x.scatter(1, index, values)


def scatter_add(x, index, values):
    return x.scatter_add(1, index, values)


def segment_sum(x, segment):
    return torch.zeros(3, x.shape[1], dtype=x.dtype).index_add(0, segment, x)


def segment_max(x, segment):
    lowest = torch.full((3,), -torch.inf, dtype=x.dtype)
    return lowest.scatter_reduce(0, segment, x, reduce="amax")


def segment_mean(x, segment):
    sums = torch.zeros(3, dtype=x.dtype).index_add(0, segment, x)
    return sums / torch.bincount(segment, minlength=3).clamp(min=1)


def top_k(x):
    values, places = torch.topk(x, 2, dim=-1)
    return values, places


def keep_top_k(logits):
    lowest = torch.topk(logits, 2, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < lowest, -torch.inf).softmax(dim=-1)


def sort(x):
    ascending, order = torch.sort(x, stable=True)
    return ascending, order, torch.sort(x, descending=True).values


def unique(index):
    return torch.unique(index, return_counts=True)


def count(index):
    return torch.bincount(index, minlength=5)


def buckets(x, edges):
    return torch.bucketize(x, edges, out_int32=True)


def clip(x):
    return x.clamp(-0.5, 0.5)
