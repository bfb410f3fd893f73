"""One pass of any PyTorch model with every module call in sight: what went in, what came out."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from twingrad.calls import Call, Key, Pass, only_loss
from twingrad.matching import Leaf

# Running statistics count as state; counters and masks do not.
_STATE = ("running_mean", "running_var")


def prepare(model: nn.Module, dtype: str, train: bool) -> nn.Module:
    """``model`` in ``dtype``, in training or evaluation mode, with nothing done in place."""
    model = model.to(getattr(torch, dtype)).train(train)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model.requires_grad_()


def leaves(model: nn.Module) -> list[Leaf]:
    """Parameters, and running statistics, in the order of their declaration."""
    owners = dict(model.named_modules())

    def leaf(name: str, tensor: Tensor) -> Leaf:
        owner = owners[name.rpartition(".")[0]]
        return Leaf(name, tuple(tensor.shape), type(owner).__name__)

    return [leaf(name, tensor) for name, tensor in tensors(model).items()]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """What ``leaves`` speaks of, live."""
    return {**dict(model.named_parameters()), **_statistics(model)}


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    return {n: b for n, b in model.named_buffers() if n.rpartition(".")[2] in _STATE}


def views(model: nn.Module) -> dict[str, np.ndarray]:
    """The same in NumPy, in the model's own memory."""
    return {name: tensor.detach().numpy() for name, tensor in tensors(model).items()}


def statistics(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the running statistics."""
    return {name: tensor.numpy().copy() for name, tensor in _statistics(model).items()}


def restore(model: nn.Module, values: dict[str, np.ndarray]) -> None:
    """Write running statistics back into the live model."""
    for name, tensor in _statistics(model).items():
        tensor.copy_(torch.from_numpy(values[name]))


def batch_of(batch: Sequence[np.ndarray], dtype: str) -> tuple[Tensor, ...]:
    """Arrays as tensors: floats in ``dtype``, integers as int64."""
    kind = getattr(torch, dtype)
    return tuple(torch.tensor(x).to(kind if x.dtype.kind == "f" else torch.int64) for x in batch)


def observe(model: nn.Module, loss_fn: Callable, batch: Sequence[np.ndarray], dtype: str) -> Pass:
    """Forward and backward, with every call's tensors and their gradients.

    A module's own input is a view of what it was given, so that the gradient at it is what flows
    back through this module alone, and not through the residual path beside it.
    """
    watch = _Watch()
    handles = [handle for name, m in model.named_modules() for handle in watch.hook(name, m)]
    try:
        model.zero_grad()
        loss = only_loss(loss_fn(model, *batch_of(batch, dtype)))
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    gradients = {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy()
        for name, p in model.named_parameters()
    }
    model.zero_grad()  # forgets them without writing to them
    return Pass(
        loss=float(loss.detach()),
        calls={key: found.finished() for key, found in watch.calls.items()},
        events=watch.events,
        gradients=gradients,
        statistics=statistics(model),
    )


def applied(model: nn.Module, path: str, x: np.ndarray) -> np.ndarray:
    """What the submodule at ``path`` makes of ``x``."""
    with torch.no_grad():
        return model.get_submodule(path)(torch.from_numpy(x)).numpy()


def dropouts(model: nn.Module) -> dict[str, tuple[float, np.ndarray]]:
    """Rate and key of every layer at work whose mask is a function of a key."""
    found = {}
    for name, module in model.named_modules():
        key = getattr(module, "key", None)
        if isinstance(module, nn.Dropout) and module.training and isinstance(key, Tensor):
            found[name] = (module.p, key.numpy().view(np.uint32))
    return found


class _Seen:
    """A call as it goes on."""

    def __init__(self, key: Key, module: nn.Module):
        self.key, self.module = key, module
        self.inputs: list[Tensor] = []
        self.integers: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def finished(self) -> Call:
        """The call in NumPy, once gradients are there."""
        return Call(
            key=self.key,
            kind=type(self.module).__name__,
            inputs=[_array(x) for x in self.inputs],
            integers=[_array(x) for x in self.integers],
            outputs=[_array(x) for x in self.outputs],
            input_gradients=[_gradient(x) for x in self.inputs],
            output_gradients=[_gradient(x) for x in self.outputs],
        )


class _Watch:
    """Hooks, and what they see."""

    def __init__(self) -> None:
        self.calls: dict[Key, _Seen] = {}
        self.events: list[tuple[str, Key]] = []
        self.counts: Counter[str] = Counter()
        self.open: dict[str, list[_Seen]] = {}

    def hook(self, name: str, module: nn.Module) -> list[Any]:
        """Handles of the hooks before and after the module's call."""
        if isinstance(module, nn.Dropout) and not (module.training and module.p > 0):
            return []  # it does nothing
        return [
            module.register_forward_pre_hook(self._enter(name), with_kwargs=True),
            module.register_forward_hook(self._leave(name)),
        ]

    def _enter(self, name: str) -> Callable:
        def enter(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            seen = _Seen(Key(name, self.counts[name]), module)
            self.counts[name] += 1
            self.calls[seen.key] = seen
            self.events.append(("enter", seen.key))
            self.open.setdefault(name, []).append(seen)
            flat, form = pytree.tree_flatten((args, kwargs))
            given = [self._watched(seen, x) if isinstance(x, Tensor) else x for x in flat]
            return pytree.tree_unflatten(given, form)

        return enter

    def _watched(self, seen: _Seen, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            if x.dtype != torch.bool:
                seen.integers.append(x)
            return x
        own = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        own.retain_grad()
        seen.inputs.append(own)
        return own

    def _leave(self, name: str) -> Callable:
        def leave(module: nn.Module, args: tuple, output: Any) -> None:
            seen = self.open[name].pop()
            self.events.append(("leave", seen.key))
            for x in pytree.tree_leaves(output):
                if isinstance(x, Tensor) and x.is_floating_point():
                    if x.requires_grad:
                        x.retain_grad()
                    seen.outputs.append(x)

        return leave


def _array(x: Tensor) -> np.ndarray:
    return x.detach().numpy().copy()


def _gradient(x: Tensor) -> np.ndarray:
    grad = x.grad if x.requires_grad else None
    return np.zeros(tuple(x.shape), x.detach().numpy().dtype) if grad is None else _array(grad)
