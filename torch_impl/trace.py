"""Every activation and gradient of a model by name, in PyTorch: recorded by hooks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from shared.observation import Observation
from shared.params import Params
from torch_impl.optim import Optimizer
from torch_impl.params import export_tensors, import_tensors, to_numpy
from torch_impl.runtime import Runtime
from torch_impl.train import LossFn


def observe(
    model: nn.Module, loss_fn: LossFn, batch: tuple[np.ndarray, ...], runtime: Runtime
) -> Observation:
    """One forward and backward pass, with every activation and every gradient by name."""
    with _recording(model) as outputs:
        loss, output = loss_fn(model, *runtime.batch(*batch))
    model.zero_grad()
    loss.backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    return Observation(
        dtype=str(output.dtype).removeprefix("torch."),
        loss=to_numpy(loss),
        output=to_numpy(output),
        activations={name: to_numpy(y) for name, y in outputs.items()},
        activation_gradients={name: to_numpy(y.grad) for name, y in outputs.items()},
        gradients=export_tensors(model, gradients),
    )


@contextmanager
def _recording(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within, the output of every submodule goes to the dictionary, in the order of completion.

    Dropout is left out: its effect is in the output of the module around it.
    """
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            output.retain_grad()  # autograd frees gradients of tensors that are not leaves
            outputs[name] = output

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.Dropout)
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def stepped(
    model: nn.Module, optimizer: Optimizer, gradients: Iterable[Params], runtime: Runtime
) -> Iterator[Params]:
    """The parameters after each optimizer step on canonical ``gradients`` from outside."""
    for injected in gradients:
        tensors = import_tensors(model, injected, runtime)
        for name, p in model.named_parameters():
            p.grad = tensors[name]
        optimizer.step()
        yield export_tensors(model, dict(model.named_parameters()))
