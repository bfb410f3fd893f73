"""Debugging, in PyTorch."""

import torch


def find_nan(x):
    x = (x - x).requires_grad_()
    try:
        with torch.autograd.set_detect_anomaly(True):
            (x.sqrt() * 0).sum().backward()  # 0 times an infinite derivative
    except RuntimeError:
        return True
    return False


def print_inside(x):
    seen = []

    def energy(x):
        total = x.sin().sum()
        seen.append(round(total.item(), 6))  # or print(total)
        return total

    return energy(x), seen


def check_values(x):
    def root(x):
        if not (x > 0).all():
            raise ValueError("x must be positive")
        return x.sqrt()

    try:
        root(-x)
    except ValueError as error:
        return root(x), "x must be positive" in str(error)


def step_through(x):
    def doubled(x):
        total = x.sum()
        return x * 2 if total > 0 else x  # a breakpoint here sees numbers

    return doubled(x.abs())


def shapes_alone():
    with torch.device("meta"):
        layer = torch.nn.Linear(50_000, 50_000)  # takes no memory
        output = layer(torch.empty(8, 50_000))
    return tuple(output.shape), sum(p.numel() for p in layer.parameters())


def check_a_gradient(x):
    return torch.autograd.gradcheck(
        lambda x: (x.sin() * x).sum(), x.requires_grad_()
    )


def all_finite(weight, bias):
    parameters = {"weight": weight, "bias": bias / 0}
    return all(p.isfinite().all().item() for p in parameters.values())


def compare_trees(weight, bias):
    left, right = (
        {"weight": weight, "bias": bias},
        {"weight": weight * 1.01, "bias": bias},
    )
    return {name: (left[name] - right[name]).abs().max() for name in left}
