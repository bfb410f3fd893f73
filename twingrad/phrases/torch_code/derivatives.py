"""Derivatives, vmap and what they are made of, in PyTorch."""

import torch
from torch import func


def _energy(x):
    return (x.sin() * x).sum()


def gradient(x):
    x = x.detach().requires_grad_()
    _energy(x).backward()
    return x.grad


def value_and_gradient(x):
    x = x.detach().requires_grad_()
    loss = _energy(x)
    (gradient,) = torch.autograd.grad(loss, x)
    return loss, gradient


def several_arguments(x, y):
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    return torch.autograd.grad((x * y.exp()).sum(), (x, y))


def further_outputs(x):
    x = x.detach().requires_grad_()
    hidden = x.tanh()
    loss = hidden.square().sum()
    loss.backward()
    return x.grad, hidden.detach()


def by_the_input(image, weight):
    image = image.detach().requires_grad_()
    scores = image @ weight
    (saliency,) = torch.autograd.grad(scores[:, 0].sum(), image)
    return saliency.abs()


def unused_input(x, y):
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    return torch.autograd.grad(_energy(x), (x, y), materialize_grads=True)


def directional(x, direction):
    return func.jvp(_energy, (x,), (direction,))


def pulled_back(x, cotangent):
    output, pull_back = func.vjp(torch.tanh, x)
    (gradient,) = pull_back(cotangent)
    return output, gradient


def jacobian(x):
    return func.jacrev(lambda x: x.cumsum(0).sin())(x), func.jacfwd(torch.tanh)(
        x
    )


def hessian(x):
    return func.hessian(_energy)(x)


def hessian_times_vector(x, direction):
    _, product = func.jvp(func.grad(_energy), (x,), (direction,))
    return product


def linear_approximation(x, direction):
    value, derivative = func.linearize(lambda x: x.sin(), x)
    return value + derivative(direction)


def gradient_penalty(x, weight):
    (gradient,) = torch.autograd.grad(
        (x @ weight).tanh().sum(), x, create_graph=True
    )
    return gradient.square().sum()


def per_example_gradients(weight, x, y):
    def loss(weight, x, y):
        return (x @ weight - y).square().mean()

    return func.vmap(func.grad(loss), in_dims=(None, 0, 0))(weight, x, y)


def map_over_a_batch(x, weight):
    def one(x, weight):
        return torch.dot(x, weight).tanh()

    return func.vmap(one, in_dims=(0, None))(x, weight)


def map_over_other_axes(x, y):
    return func.vmap(torch.outer, in_dims=(1, 0), out_dims=2)(x, y)


def stop_gradient(x):
    target = x.detach() * 2
    return ((x - target) ** 2).sum()


def without_gradient(x):
    with torch.no_grad():
        scale = x.abs().max()
    return x / scale


def laplacian(x):
    return func.hessian(_energy)(x).diagonal().sum()
