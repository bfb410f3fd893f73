"""Modules, parameters and buffers, in PyTorch."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def linear(x, weight, bias):
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer(x)


def own_module(x, scale):
    class Scale(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = nn.Parameter(scale)

        def forward(self, x):
            return x * self.scale

    model = Scale(scale)
    model(x).square().sum().backward()
    return model(x), model.scale.grad


def list_of_layers(x, weights):
    class Stack(nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Linear(3, 3, bias=False) for _ in weights
            )
            for layer, weight in zip(self.layers, weights, strict=True):
                layer.weight.data = weight

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return x

    return Stack(weights.detach())(x)


def sequential(x, weight):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh())
    model[0].weight.data = weight.detach()
    return model(x)


def buffer(x):
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return x - self.mean

    model = Running()
    model(x)
    return model(x), model.mean, len(list(model.parameters()))


def shared_weights(tokens, table):
    class Tied(nn.Module):
        def __init__(self, table):
            super().__init__()
            self.embed = nn.Embedding.from_pretrained(table, freeze=False)
            self.head = nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    model = Tied(table)
    logits = model(tokens)
    logits.square().sum().backward()
    return logits, model.embed.weight.grad, len(list(model.parameters()))


def initialise():
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer.weight.std(), layer.weight.abs().max(), layer.bias.abs().max()


def freeze(x, first, second):
    model = nn.Sequential(
        nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False)
    )
    model.load_state_dict({"0.weight": first, "1.weight": second})
    model[0].requires_grad_(False)
    model(x).square().mean().backward()
    return model[1].weight.grad, sum(
        p.grad is not None for p in model.parameters()
    )


def intermediates(x, weight):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh())
    model[0].weight.data = weight.detach()
    seen = {}
    handle = model[0].register_forward_hook(
        lambda module, arguments, output: seen.update(hidden=output)
    )
    output = model(x)
    handle.remove()
    return output, seen["hidden"]


def gradient_of_an_intermediate(x, weight):
    hidden = x @ nn.Parameter(weight)
    hidden.retain_grad()
    hidden.tanh().sum().backward()
    return hidden.grad


def count_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    return sum(parameter.numel() for parameter in model.parameters())


def by_name():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return [
        (name, p.ndim)
        for name, p in model.named_parameters()
        if name.endswith("bias")
    ]


def embedding(tokens, table):
    embed = nn.Embedding.from_pretrained(table, freeze=False)
    vectors = embed(tokens)
    vectors.square().sum().backward()
    return vectors, embed.weight.grad


def convolution(images, kernel):
    layer = nn.Conv2d(2, 3, kernel_size=3, padding=1, bias=False)
    layer.load_state_dict({"weight": kernel})
    return layer(images)


def pooling(images):
    return F.max_pool2d(images, 2), F.avg_pool2d(images, 2)


def resize(images):
    return F.interpolate(
        images, scale_factor=2, mode="bilinear", align_corners=False
    )


def layer_norm(x, scale):
    layer = nn.LayerNorm(3)
    layer.load_state_dict({"weight": scale, "bias": torch.zeros(3)})
    return layer(x)


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def gelu(x):
    return F.gelu(x), F.gelu(x, approximate="tanh")


def copy_a_model(x):
    model = nn.Linear(3, 2)
    other = copy.deepcopy(model)
    other.weight.data += 1
    return other(x) - model(x)


def as_a_function(x, weight):
    model = nn.Linear(3, 2, bias=False)
    return torch.func.functional_call(model, {"weight": weight}, (x,))


def replace_a_layer(x):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1] = nn.Identity()
    return tuple(model(x).shape)


def ensemble(x, weights):
    models = [nn.Linear(3, 2, bias=False) for _ in weights]
    for model, weight in zip(models, weights, strict=True):
        model.weight.data = weight
    parameters, _ = torch.func.stack_module_state(models)

    def call(parameters, x):
        return torch.func.functional_call(models[0], parameters, (x,))

    return torch.vmap(call, in_dims=(0, None))(parameters, x)
