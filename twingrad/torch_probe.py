"""One pass of any PyTorch model, with the inputs and outputs of every module call recorded."""

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from twingrad import devices
from twingrad.calls import Call, Event, Key, Pass, only_loss
from twingrad.casts import log, torch_tables
from twingrad.foreign import Array, Loss, Model, ModuleCall, Tree
from twingrad.partners import Layout, Leaf
from twingrad.torch_arrays import array, copied

# Buffers that every port has; it may do without others, such as tables and masks.
_STATISTICS = ("running_mean", "running_var")
# Layers that keep (out, in, *window).
_OUT_IN = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase,
)  # fmt: skip
# The complex dtype whose parts have a dtype.
COMPLEX = {"float64": "complex128", "float32": "complex64", "bfloat16": "complex64"}


def made(model: Model) -> nn.Module:
    """A copy of ``model``, or what it makes where it is a function.

    Raises ``ValueError`` for what is no module.
    """
    made = copy.deepcopy(model) if isinstance(model, nn.Module) else model()
    if not isinstance(made, nn.Module):
        raise ValueError(f"torch made a {type(made).__name__}: expected a torch.nn.Module")
    return made


def mean_square(model: nn.Module, *batch: Tensor) -> Tensor:
    """The loss of a pair without one: the mean squares of all outputs, added up."""
    outputs = pytree.tree_leaves(model(*batch))
    means = [
        (x.abs() ** 2).mean()
        for x in outputs
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    ]
    if not means:
        raise ValueError("the PyTorch model has no output of numbers: give torch_loss and jax_loss")
    return torch.stack(means).sum()


def prepare(model: nn.Module, dtype: str, train: bool) -> nn.Module:
    """``model`` in ``dtype``, in training or evaluation mode, with nothing done in place."""
    model = in_dtype(model, dtype, train)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model.requires_grad_()


def in_dtype(model: nn.Module, dtype: str, train: bool) -> nn.Module:
    """``model`` in ``dtype``, in training or evaluation mode.

    Complex numbers become those whose parts have ``dtype``.
    """
    kind, complex_kind = getattr(torch, dtype), getattr(torch, COMPLEX[dtype])

    def cast(x: Tensor) -> Tensor:
        x = x.to(devices.torch_device())
        if x.is_complex():
            return x.to(complex_kind)
        return x.to(kind) if x.is_floating_point() else x

    # Module.to(dtype) would drop the imaginary parts.
    return model._apply(cast).train(train)  # type: ignore[no-untyped-call, no-any-return]


def leaves(model: nn.Module) -> list[Leaf]:
    """Parameters, and buffers of numbers, in the order of their declaration."""
    owners = dict(model.named_modules())
    buffers = _statistics(model)

    def leaf(name: str, tensor: Tensor) -> Leaf:
        owner, _, last = name.rpartition(".")
        optional = name in buffers and last not in _STATISTICS
        module = owners[owner]
        return Leaf(name, tuple(tensor.shape), type(module).__name__, optional, _layout(module))

    return [leaf(name, tensor) for name, tensor in tensors(model).items()]


def _layout(module: nn.Module) -> Layout:
    """How the weights of one of PyTorch's own layers, or of transformers' Conv1D, lie."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "table"
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return "in out window"
    if isinstance(module, _OUT_IN):
        return "out in"
    return "in out" if type(module).__name__ == "Conv1D" else ""


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that ``leaves`` describes, live."""
    return {**dict(model.named_parameters()), **_statistics(model)}


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    return {n: b for n, b in model.named_buffers() if b.is_floating_point() or b.is_complex()}


def views(model: nn.Module) -> dict[str, Array]:
    """The same in NumPy, in the model's own memory."""
    return {name: array(tensor) for name, tensor in tensors(model).items()}


def statistics(model: nn.Module) -> dict[str, Array]:
    """Copies of the buffers of numbers, running statistics among them."""
    return {name: copied(tensor) for name, tensor in _statistics(model).items()}


def restore(model: nn.Module, values: Mapping[str, Array]) -> None:
    """Write buffers of numbers back into the live model."""
    with torch.no_grad():
        for name, tensor in _statistics(model).items():
            if name in values and values[name].shape == tensor.shape:
                tensor.copy_(torch.from_numpy(values[name]))


def states(
    model: nn.Module, loss_fn: Loss, batches: Sequence[Sequence[Array]], dtype: str
) -> list[dict[str, Array]]:
    """The buffers of numbers after each of ``batches`` in a row; they are then as they were."""
    before, after = statistics(model), []
    for batch in batches:
        loss_fn(model, *batch_of(batch, dtype))
        after.append(statistics(model))
    restore(model, before)
    return after


def momentum(model: nn.Module, path: str) -> float | None:
    """The share of the new in the running statistics of the module at ``path``, if it has one."""
    share = getattr(model.get_submodule(path), "momentum", None)
    return float(share) if isinstance(share, float | int) else None


def batch_of(batch: Sequence[Array], dtype: str) -> tuple[Tensor, ...]:
    """Arrays as tensors of memory of their own: floats in ``dtype``, all others as they are.

    Signed integers are int64 all the same: PyTorch's losses take no others for targets.
    """
    kinds = {
        "f": getattr(torch, dtype),
        "c": getattr(torch, COMPLEX[dtype]),
        "i": torch.int64,
    }
    here = devices.torch_device()
    return tuple(torch.tensor(x, device=here).to(kinds.get(x.dtype.kind)) for x in batch)


def observe(
    model: nn.Module, loss_fn: Loss, batch: Sequence[Array], dtype: str, only: str | None = None
) -> Pass:
    """Forward and backward, with every call's tensors and their gradients.

    With ``only``, a regular expression, tensors are kept of the model's calls and of those of
    modules whose paths it finds; others are ``left_out``.

    A module's own input is a copy of what it was given, so that the gradient at it is what flows
    back through this module alone, and not through the residual path beside it; its caller gets a
    copy of its output. What is done in place later changes neither value nor gradient of a record.
    Where a caller has no use for an output that the module itself goes on from, as a model that
    returns logits and a loss of them, the gradient at that output is the one inside.
    """
    watch = _Watch(only)
    handles = [handle for name, m in model.named_modules() for handle in watch.hook(name, m)]
    try:
        model.zero_grad()
        given = batch_of(batch, dtype)
        with torch_tables.collecting(model.parameters(), given) as tables:
            loss = only_loss(loss_fn(model, *given))
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    gradients = {
        name: array(torch.zeros_like(p) if p.grad is None else p.grad)
        for name, p in model.named_parameters()
    }
    model.zero_grad()  # forgets them without writing to them
    return Pass(
        loss=float(loss.detach()),
        calls={key: call.finished() for key, call in watch.calls.items()},
        events=watch.events,
        gradients=gradients,
        statistics=statistics(model),
        left_out=watch.left_out,
        fixed=tables,
    )


def applied(model: nn.Module, path: str, x: Array) -> Array:
    """The output of the submodule at ``path`` for ``x``."""
    with torch.no_grad():
        own = next(model.parameters(), torch.zeros(()))
        output: Tensor = model.get_submodule(path)(torch.from_numpy(x).to(own))
    return array(output)


def copies(parameters: Mapping[str, Tensor]) -> dict[str, Array]:
    """Parameters in NumPy, in memory of their own."""
    return {name: copied(p) for name, p in parameters.items()}


def write(parameters: Mapping[str, Tensor], values: Mapping[str, Array]) -> None:
    """Write values into live parameters."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(torch.from_numpy(values[name]))


def load(model: nn.Module, values: Mapping[str, Array]) -> None:
    """Write ``values``, of any dtype, into those of the model's tensors that they have."""
    with torch.no_grad():
        for name, tensor in tensors(model).items():
            if name in values:
                value = values[name]
                wide = np.complex128 if np.iscomplexobj(value) else np.float64
                tensor.copy_(torch.from_numpy(value.astype(wide)))


def tensors_of(values: Mapping[str, Array]) -> dict[str, Tensor]:
    """Arrays as tensors in the same memory."""
    return {name: torch.from_numpy(value) for name, value in values.items()}


def set_gradients(parameters: Mapping[str, Tensor], gradients: Mapping[str, Array]) -> None:
    """Give live parameters these gradients."""
    for name, p in parameters.items():
        p.grad = torch.from_numpy(gradients[name].copy()).to(p)


def dropouts(model: nn.Module) -> dict[str, tuple[float, Array]]:
    """Rate and key of every layer at work whose mask is a function of a key."""
    keyed = {}
    for name, module in model.named_modules():
        key = getattr(module, "key", None)
        if isinstance(module, nn.Dropout) and module.training and isinstance(key, Tensor):
            keyed[name] = (module.p, array(key).view(np.uint32))
    return keyed


class _OpenCall:
    """The tensors of a call while it goes on."""

    def __init__(self, key: Key, module: nn.Module):
        self.key, self.module = key, module
        self.inputs: list[Tensor] = []
        self.integers: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.computed: list[Tensor] = []  # what the module made, of which outputs are copies
        self.lent: list[_Lent] = []

    def finished(self) -> Call:
        """The call in NumPy, once gradients are there."""
        return Call(
            key=self.key,
            kind=type(self.module).__name__,
            inputs=[array(x) for x in self.inputs],
            integers=[array(x) for x in self.integers],
            outputs=[array(x) for x in self.outputs],
            input_gradients=[_gradient(x) for x in self.inputs],
            output_gradients=[
                _gradient(inside if x.grad is None and not inside.is_leaf else x)
                for x, inside in zip(self.outputs, self.computed, strict=True)
            ],
        )


class _Watch:
    """Hooks, and the calls that they record."""

    def __init__(self, only: str | None) -> None:
        self.only = only
        self.left_out: list[Key] = []
        self.calls: dict[Key, _OpenCall] = {}
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.open: dict[str, list[_OpenCall]] = {}

    def hook(self, name: str, module: nn.Module) -> list[RemovableHandle]:
        """Handles of the hooks before and after the module's call."""
        if isinstance(module, nn.Dropout) and not (module.training and module.p > 0):
            return []  # it does nothing
        if name and self.only is not None and not re.search(self.only, name):
            return [
                module.register_forward_pre_hook(self._go_by(name), with_kwargs=True),
                module.register_forward_hook(self._come_back),
            ]
        return [
            module.register_forward_pre_hook(self._enter(name), with_kwargs=True),
            module.register_forward_hook(self._leave(name)),
        ]

    def _go_by(self, name: str) -> ModuleCall:
        def go_by(module: nn.Module, args: Tree, kwargs: Tree) -> None:
            self.left_out.append(Key(name, self.counts[name]))
            self.counts[name] += 1
            log.enter(name)

        return go_by

    def _come_back(self, module: nn.Module, args: Tree, output: Tree) -> None:
        log.leave()

    def _enter(self, name: str) -> ModuleCall:
        def enter(module: nn.Module, args: Tree, kwargs: Tree) -> Tree:
            call = _OpenCall(Key(name, self.counts[name]), module)
            self.counts[name] += 1
            self.calls[call.key] = call
            self.events.append(("enter", call.key))
            log.enter(name)
            self.open.setdefault(name, []).append(call)
            flat, form = pytree.tree_flatten((args, kwargs))
            watched = [self._watched(call, x) if isinstance(x, Tensor) else x for x in flat]
            return pytree.tree_unflatten(watched, form)

        return enter

    def _watched(self, call: _OpenCall, x: Tensor) -> Tensor:
        """The tensor that the module gets for ``x``."""
        if not x.is_floating_point():
            if x.dtype != torch.bool and not x.is_complex():
                call.integers.append(x.clone())
            return x
        record = x.clone()
        if not record.requires_grad:
            record = record.detach().requires_grad_()
        record.retain_grad()
        call.inputs.append(record)
        lent = _Lent(x, record.clone())
        call.lent.append(lent)
        return lent.copy

    def _leave(self, name: str) -> ModuleCall:
        def leave(module: nn.Module, args: Tree, output: Tree) -> Tree:
            call = self.open[name].pop()
            self.events.append(("leave", call.key))
            log.leave()
            for lent in call.lent:
                lent.give_back()
            flat, form = pytree.tree_flatten(output)
            handed = [self._handed(call, x) if isinstance(x, Tensor) else x for x in flat]
            return pytree.tree_unflatten(handed, form)

        return leave

    def _handed(self, call: _OpenCall, x: Tensor) -> Tensor:
        """The tensor that the module's caller gets for the output ``x``."""
        if not x.is_floating_point():
            return x
        record = x.clone()
        if record.requires_grad:
            record.retain_grad()
            x.retain_grad()
        call.outputs.append(record)
        call.computed.append(x)
        return record.clone()


class _Lent:
    """A caller's tensor, and the copy of it that a module works on."""

    def __init__(self, original: Tensor, copy: Tensor):
        self.original, self.copy = original, copy
        self.version = copy._version

    def give_back(self) -> None:
        """Let the caller see what the module has changed in place."""
        if self.copy._version != self.version:
            self.original.copy_(self.copy)
            self.version = self.copy._version


def _gradient(x: Tensor) -> Array:
    grad = x.grad if x.requires_grad else None
    return np.zeros(tuple(x.shape), array(x).dtype) if grad is None else copied(grad)
