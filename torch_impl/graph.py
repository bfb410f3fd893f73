"""The graph that autograd records of a loss, with every value and gradient, in PyTorch."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node as Recorded
from torch.overrides import TorchFunctionMode

from shared import graph
from shared.graph import Graph, Node, Recording, Use
from shared.statements import Frame, assigned
from torch_impl.params import to_numpy
from torch_impl.train import LossFn

FOLDER = Path(__file__).parent


def record(model: nn.Module, loss_fn: LossFn, *batch: Tensor) -> Graph:
    """The nodes behind the loss of ``loss_fn(model, *batch)``, from the parameters to the loss.

    Autograd records only what leads to a parameter: the batch has no node.
    """
    return _recording(model, loss_fn, *batch).graph()


def record_parts(model: nn.Module, loss_fn: LossFn, *batch: Tensor) -> Graph:
    """The same with one node for all that one place in the code has made.

    A place is a module of PyTorch's, by its path, or a statement in the files of this folder, by
    the path of the module that runs it and the names that it assigns.
    """
    return _recording(model, loss_fn, *batch).graph_of_parts()


def _recording(model: nn.Module, loss_fn: LossFn, *batch: Tensor) -> Recording:
    outputs = _Outputs(model)
    with outputs:
        loss, _ = loss_fn(model, *batch)
    order = list(_topological(loss.grad_fn))
    index = {node: i for i, node in enumerate(order)}
    received: dict[Recorded, tuple[Tensor | None, ...]] = {}
    handles = [node.register_hook(_keeping(received, node)) for node in order]
    torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    for handle in handles:
        handle.remove()
    named = {id(p): name for name, p in model.named_parameters()}
    runs = graph.consecutive(outputs.places)
    parts = {node: runs[call] for node, call in outputs.calls.items()}
    uses = []
    for target in reversed(order):
        for i, (source, output) in enumerate(target.next_functions):
            if source is None:  # needs no gradient: the batch, or a constant
                continue
            if not hasattr(source, "variable"):  # a function's inner node has no place of its own
                parts.setdefault(source, parts[target])
            value = outputs.values.get((source, output), getattr(source, "variable", None))
            gradient = received[target][i]
            shape = tuple((gradient if value is None else value).shape)
            arrays = (None if t is None else to_numpy(t) for t in (value, gradient))
            uses.append(Use(index[source], output, index[target], shape, *arrays))
    nodes = [_node(node, named) for node in order]
    uses.sort(key=lambda use: use.target)
    return Recording(nodes, [parts.get(node) for node in order], loss.item(), uses)


class _Outputs(TorchFunctionMode):
    """Within, every tensor that a function returns is kept by its node and its output's number.

    ``places`` are the places in the code of all calls, ``calls`` the first call that gave a node.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules = {id(module): name for name, module in model.named_modules()}
        self.values: dict[tuple[Recorded, int], Tensor] = {}
        self.places: list[str] = []
        self.calls: dict[Recorded, int] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        if any(isinstance(tensor, Tensor) for tensor in tensors):
            self.places.append(self._place(sys._getframe(1)) or func.__name__)
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                self.values[tensor.grad_fn, tensor.output_nr] = tensor.detach()
                self.calls.setdefault(tensor.grad_fn, len(self.places) - 1)
        return result

    def _place(self, frame: FrameType | None) -> str:
        """The path of the module that calls, and the names that it assigns in this folder."""
        frames: list[Frame] = []
        path = ""
        while frame is not None and frame.f_code.co_filename != __file__:
            code = frame.f_code
            frames.append((code.co_filename, frame.f_lineno, code.co_qualname))
            if code.co_name == "forward" and id(frame.f_locals.get("self")) in self.modules:
                path = self.modules[id(frame.f_locals["self"])]
                break
            frame = frame.f_back
        return ": ".join(filter(None, (path, assigned(frames, FOLDER))))


def _topological(last: Recorded) -> Iterator[Recorded]:
    """Every node behind ``last``, each after those that it takes its inputs from."""
    seen: set[Recorded] = set()
    waiting = [(last, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(n, False) for n, _ in reversed(node.next_functions) if n is not None]


def _keeping(
    received: dict[Recorded, tuple[Tensor | None, ...]], node: Recorded
) -> Callable[..., None]:
    """A hook that keeps the gradients with respect to the inputs of ``node``."""

    def hook(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> None:
        received[node] = inputs

    return hook


def _node(node: Recorded, named: dict[int, str]) -> Node:
    name = named.get(id(getattr(node, "variable", None)))
    return Node(name or node.name(), graph.PARAMETER if name else graph.OPERATION)
