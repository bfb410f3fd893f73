"""Creating and indexing, in PyTorch."""

import torch
from torch.nn import functional as F


def to_numpy_and_back(x):
    array = x.numpy()
    return torch.from_numpy(array * 2)


def same_dtype(x):
    return x.new_zeros(2, 3), torch.full_like(x, 0.5)


def ranges(x):
    return torch.arange(2, 10, 3), torch.linspace(0, 1, 5, dtype=x.dtype)


def grid(x, y):
    rows, columns = torch.meshgrid(x, y, indexing="ij")
    return rows * columns


def one_hot(index):
    return F.one_hot(index, num_classes=4).to(torch.float64)


def rows(x, index):
    return x[index]


def one_of_each_row(x, index):
    return x[torch.arange(len(x)), index]


def past_the_end(x, index):
    inside = index < len(x)  # x[index] alone raises IndexError
    return torch.where(inside, x[index.clamp(max=len(x) - 1)], torch.nan)


def backwards(x):
    return x.flip(0)  # x[::-1] is refused: a tensor has no negative steps


def window(x, start):
    return x[start : start + 2]


def to_python(x):
    return x.sum().item(), x.tolist()


def repeat(x):
    return x.repeat(2, 1), x.repeat_interleave(2, dim=0)
