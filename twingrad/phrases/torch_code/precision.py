"""Precision and dtypes, in PyTorch."""

import torch
from torch import nn


def cast(x):
    return x.to(torch.float32), x.to(torch.bfloat16)


def defaults_of_numbers(x):
    integer = torch.tensor(3)
    return str(integer.dtype).removeprefix("torch."), integer * x


def keep_the_dtype(x):
    x = x.to(torch.bfloat16)
    y = x * 2.5 + 1
    return y, str(y.dtype).removeprefix("torch.")


def accumulate_in_float32(x, y):
    x, y = x.to(torch.bfloat16), y.to(torch.bfloat16)
    return x.float() @ y.float()


def autocast(x, weight):
    x = x.float()
    layer = nn.Linear(3, 2, bias=False, dtype=torch.float32)
    layer.weight.data = weight.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    return y, layer.weight.grad.dtype == torch.float32


def master_weights(weight, gradient):
    master = weight.float()
    for _ in range(100):
        master -= 1e-4 * gradient.to(torch.bfloat16).float()
    return master.to(torch.bfloat16)


def loss_scaling(x):
    x = x.half().requires_grad_()
    scale = 1024.0
    loss = (x * 1e-4).square().sum()
    (gradient,) = torch.autograd.grad(loss * scale, x)
    return gradient.float() / scale


def limits(x):
    info = torch.finfo(x.dtype)
    return info.eps, info.max, info.tiny


def whole_division(x, y):
    y = y + 1
    return x // y, x % y, torch.div(-x, y, rounding_mode="trunc")


def lower_matmul_precision(x, y):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    product = x.float() @ y.float()
    torch.set_float32_matmul_precision(before)
    return product
