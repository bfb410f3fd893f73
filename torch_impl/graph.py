"""The graph that autograd records of a loss, with every value and gradient, in PyTorch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node as Recorded
from torch.overrides import TorchFunctionMode

from shared import graph
from shared.graph import Amount, Edge, Graph, Node
from torch_impl.params import to_numpy
from torch_impl.train import LossFn


def record(model: nn.Module, loss_fn: LossFn, *batch: Tensor) -> Graph:
    """The nodes behind the loss of ``loss_fn(model, *batch)``, from the parameters to the loss.

    Autograd records only what leads to a parameter: the batch has no node.
    """
    outputs = _Outputs()
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
    found = Graph([_node(node, named) for node in order], loss.item())
    for target in order:
        for i, (source, output) in enumerate(target.next_functions):
            if source is None:  # needs no gradient: the batch, or a constant
                continue
            value = outputs.values.get((source, output), getattr(source, "variable", None))
            gradient = received[target][i]
            shape = tuple((gradient if value is None else value).shape)
            amounts = (None if t is None else Amount.of(to_numpy(t)) for t in (value, gradient))
            found.edges.append(Edge(index[source], index[target], shape, *amounts))
    return found


class _Outputs(TorchFunctionMode):
    """Within, every tensor that a function returns is kept by its node and its output's number."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[Recorded, int], Tensor] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                self.values[tensor.grad_fn, tensor.output_nr] = tensor.detach()
        return result


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
