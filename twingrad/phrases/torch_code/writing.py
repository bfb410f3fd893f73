"""Writing in place, views and copies, in PyTorch."""

import torch


def write(x):
    x[0] = 1.0
    x[:, 1] = 0.0
    return x


def add_at(x, index, values):
    # x[index] += values adds once where an index comes twice
    return x.index_add_(0, index, values)


def largest_at(x, index, values):
    return x.scatter_reduce_(0, index, values, reduce="amax")


def write_where(x):
    x[x < 0] = 0.0
    return x


def through_a_view(x):
    row = x[0]
    row += 1  # x has changed too
    return x


def copy(x):
    y = x.clone()
    y[0] = 0.0
    return x, y


def swap_rows(x):
    x[[0, 1]] = x[[1, 0]]
    return x


def diagonal(x):
    x.diagonal().add_(1.0)
    return x


def fill_a_buffer(x):
    buffer = torch.zeros(4, *x.shape, dtype=x.dtype)
    for i in range(4):
        buffer[i] = x * i
    return buffer


def write_a_slice(cache, new, position):
    cache[position : position + len(new)] = new
    return cache


def all_parameters(weight, bias):
    parameters = {"weight": weight, "bias": bias}
    for parameter in parameters.values():
        parameter.mul_(0.9)
    return parameters
