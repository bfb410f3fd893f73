"""Optimizers, schedules, clipping and averages, in PyTorch."""

import torch
from torch import nn


def training_step(x, y, weight):
    model = nn.Linear(3, 1, bias=False)
    model.load_state_dict({"weight": weight})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return loss, model.weight


def momentum(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.SGD(
        [parameter], lr=0.1, momentum=0.9, nesterov=True
    )
    for _ in range(3):
        parameter.grad = gradient
        optimizer.step()
    return parameter


def adam(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for _ in range(3):
        parameter.grad = gradient
        optimizer.step()
    return parameter


def decay_as_l2(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.1, weight_decay=0.01)
    for _ in range(3):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter


def no_decay_of_biases(weight, bias):
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1)
    weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
    optimizer.step()
    return weight, bias


def parameter_groups(body, head):
    body, head = body.requires_grad_(), head.requires_grad_()
    optimizer = torch.optim.SGD(
        [{"params": [body], "lr": 0.01}, {"params": [head], "lr": 0.1}],
        momentum=0.9,
    )
    body.grad, head.grad = torch.ones_like(body), torch.ones_like(head)
    optimizer.step()
    return body, head


def warmup_and_cosine(parameter):
    optimizer = torch.optim.SGD([parameter.requires_grad_()], lr=1.0)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warmup, cosine], milestones=[4]
    )
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return torch.tensor(rates)


def change_the_rate(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for rate in (0.1, 0.02):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = gradient
        optimizer.step()
    return parameter


def clip_by_norm(weight, bias):
    weight, bias = nn.Parameter(weight), nn.Parameter(bias)
    weight.grad, bias.grad = weight.detach() * 10, bias.detach() * 10
    norm = nn.utils.clip_grad_norm_([weight, bias], max_norm=1.0)
    exact = 1 + 1e-6 / norm  # PyTorch divides by the norm and 1e-6
    return weight.grad * exact, bias.grad * exact, norm


def clip_by_value(weight):
    weight = nn.Parameter(weight)
    weight.grad = weight.detach() * 10
    nn.utils.clip_grad_value_([weight], 0.5)
    return weight.grad


def accumulate(x, y, weight):
    weight = nn.Parameter(weight)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for inputs, targets in zip(x.split(2), y.split(2), strict=True):
        loss = (
            inputs @ weight - targets
        ).square().mean() / 3  # three small batches
        loss.backward()
    optimizer.step()
    return weight


def moving_average(weight, newer):
    model = nn.Linear(3, 2, bias=False)
    model.weight.data = weight
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    average.update_parameters(model)  # the first call copies
    model.weight.data = newer
    average.update_parameters(model)
    return average.module.weight


def look_at_the_moments(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = gradient
    optimizer.step()
    state = optimizer.state[parameter]
    return state["exp_avg"], state["exp_avg_sq"]


def skip_bad_steps(parameter, gradient):
    parameter = parameter.requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for scale in (1.0, torch.inf, 1.0):
        parameter.grad = gradient * scale
        if parameter.grad.isfinite().all():
            optimizer.step()
    return parameter
