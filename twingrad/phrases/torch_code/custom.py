"""Derivatives of one's own, in PyTorch."""

import torch
from torch.utils.checkpoint import checkpoint


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        gate = x.sigmoid()
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx, cotangent):
        x, gate = ctx.saved_tensors
        return cotangent * (gate + x * gate * (1 - gate))


def own_derivative(x):
    return _Swish.apply(x)


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.logaddexp(x, torch.zeros_like(x))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return tangent * x.sigmoid()


def own_forward_derivative(x, direction):
    return torch.func.jvp(_Softplus.apply, (x,), (direction,))


def clip_on_the_way_back(x):
    y = x * 3
    y.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return y


def straight_through(x):
    return x + (x.round() - x).detach()


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, cotangent):
        return -0.5 * cotangent


def reverse_the_gradient(x):
    return _Reversal.apply(x)


def implicit(a):
    def f(y, a):
        return y**3 + y - a

    with torch.no_grad():
        y = a
        for _ in range(50):
            y = y - f(y, a) / (3 * y * y + 1)
    return y - f(y, a) / (
        3 * y * y + 1
    )  # one step more, whose gradient is the implicit one


def recompute(x, weight):
    def block(x, weight):
        return torch.tanh(x @ weight).exp()

    return checkpoint(block, x, weight, use_reentrant=False)


def safe_norm(x):
    squared = (x * x).sum(dim=-1)
    nonzero = squared > 0
    return torch.where(nonzero, torch.where(nonzero, squared, 1.0).sqrt(), 0.0)
