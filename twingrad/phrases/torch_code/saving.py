"""Saving and loading, in PyTorch."""

import io
import tempfile

import torch
from torch import nn


def save_and_load(weight, bias):
    model = nn.Linear(3, 2)
    model.load_state_dict({"weight": weight, "bias": bias})
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = nn.Linear(3, 2)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other.weight, other.bias


def safetensors(weight, bias):
    from safetensors.torch import load, save

    data = save({"weight": weight, "bias": bias})
    tensors = load(data)
    return tensors["weight"], tensors["bias"], len(data)


def checkpoint(weight, bias):
    from torch.distributed import checkpoint as dcp

    state = {"weight": weight, "bias": bias}
    with tempfile.TemporaryDirectory() as folder:
        dcp.save(state, checkpoint_id=folder, no_dist=True)
        loaded = {
            name: torch.empty_like(tensor) for name, tensor in state.items()
        }
        dcp.load(loaded, checkpoint_id=folder, no_dist=True)
    return loaded["weight"], loaded["bias"]


def weights_of_the_other_framework(x, kernel, bias):
    model = nn.Linear(3, 2)
    model.load_state_dict({"weight": kernel.T, "bias": bias})
    return model(x)


def load_a_part(weight):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    result = model.load_state_dict({"0.weight": weight}, strict=False)
    return model[0].weight, len(result.missing_keys)


def resume(parameter, gradient):
    def step(parameter, optimizer):
        parameter.grad = gradient
        optimizer.step()

    parameter = nn.Parameter(parameter)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    step(parameter, optimizer)
    saved = {
        "parameter": parameter.detach().clone(),
        "optimizer": optimizer.state_dict(),
    }
    other = nn.Parameter(saved["parameter"])
    optimizer = torch.optim.Adam([other], lr=0.1)
    optimizer.load_state_dict(saved["optimizer"])
    step(other, optimizer)
    return other
