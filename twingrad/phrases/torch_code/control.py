"""Loops and branches, in PyTorch."""

import torch


def loop(x):
    for _ in range(5):
        x = x.sin()
    return x


def recurrence(x, decay):
    state, outputs = torch.zeros_like(x[0]), []
    for row in x:
        state = decay * state + row
        outputs.append(state)
    return state, torch.stack(outputs)


def until_it_converges(a):
    x, steps = a, 0
    while (x * x - a).abs().max() > 1e-13:
        x = (x + a / x) / 2
        steps += 1
    return x, steps


def differentiable_stop(a):
    x = a
    while (x * x - a).abs().max() > 1e-13:
        x = (x + a / x) / 2
    return x


def branch(x):
    if x.sum() > 0:
        return x * 2
    return -x


def choose_a_function(x, which):
    functions = (torch.sin, torch.cos, torch.tanh)
    function = functions[which]
    return function(x)


def ragged_batch(x, lengths):
    return torch.stack(
        [row[:length].mean() for row, length in zip(x, lengths, strict=True)]
    )


def all_prefixes(a, b):
    state, states = torch.zeros_like(b[0]), []
    for factor, term in zip(a, b, strict=True):
        state = factor * state + term
        states.append(state)
    return torch.stack(states)


def in_chunks(x):
    return torch.cat([chunk.exp() for chunk in x.split(2)])


def many_equal_layers(x, weights):
    for weight in weights:
        x = torch.tanh(x @ weight)
    return x
