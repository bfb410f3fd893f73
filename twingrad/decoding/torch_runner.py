"""A PyTorch model that decodes."""

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from twingrad import torch_probe
from twingrad.decode import Decode
from twingrad.decoding.runner import NO_SHIFT, Path, only_logits, two_of, with_positions
from twingrad.foreign import Array, ModuleCall, Tree
from twingrad.torch_arrays import array
from twingrad.torch_subject import Subject

T = TypeVar("T")


def within(subject: Subject, decode: Decode, use: "Callable[[TorchRunner], T]") -> T:
    """The result of ``use``, given a runner of a copy of the model that shares its parameters."""
    shared = {id(parameter): parameter for parameter in subject.model.parameters()}
    runner = TorchRunner(copy.deepcopy(subject.model, shared), decode, subject.dtype)
    with torch.no_grad():
        return use(runner)


class TorchRunner:
    """Decoding of a PyTorch model, as calls of arrays."""

    def __init__(self, model: nn.Module, decode: Decode, dtype: str):
        self.model, self.decode, self.dtype = model, decode, dtype
        self.integers: dict[str, list[Array]] = {}

    def forward(self, tokens: Array) -> Array:
        """Logits [B, T, V] without a cache."""
        (given,) = torch_probe.batch_of([tokens], self.dtype)
        if self.decode.forward is not None:
            return with_positions(_array(self.decode.forward(self.model, given)), tokens, "forward")
        return with_positions(_array(only_logits(self.model(given))), tokens, "forward")

    def cache(self, rows: int, length: int) -> Tree:
        """An empty cache, its floating-point numbers in the dtype under test."""
        kind = getattr(torch, self.dtype)
        return pytree.tree_map_only(
            Tensor,
            lambda x: x.to(kind) if x.is_floating_point() else x,
            self.decode.cache(self.model, rows, length),
        )

    def step(
        self, tokens: Array, cache: Tree, position: int, shift: Mapping[str, int] = NO_SHIFT
    ) -> tuple[Array, Tree]:
        """Logits and the cache after these tokens."""
        self.integers = {}
        handles = [
            module.register_forward_pre_hook(
                self._watch(name, shift.get(name, 0)), with_kwargs=True
            )
            for name, module in self.model.named_modules()
            if name
        ]
        try:
            (given,) = torch_probe.batch_of([tokens], self.dtype)
            logits, cache = two_of(self.decode.step(self.model, given, cache, position))
        finally:
            for handle in handles:
                handle.remove()
        return with_positions(_array(logits), tokens, "step"), cache

    def _watch(self, name: str, by: int) -> ModuleCall:
        def watch(module: nn.Module, args: Tree, kwargs: Tree) -> Tree:
            flat, form = pytree.tree_flatten((args, kwargs))
            found = [_array(x).copy() for x in flat if _is_integer(x)]
            self.integers.setdefault(name, []).extend(found)
            if not by:
                return None
            return pytree.tree_unflatten([x + by if _is_integer(x) else x for x in flat], form)

        return watch

    def leaves(self, cache: Tree) -> dict[Path, Array]:
        """Copies of the cache's arrays of numbers."""
        return {
            _path(keys): _array(x).copy()
            for keys, x in pytree.tree_flatten_with_path(cache)[0]
            if isinstance(x, Tensor) and x.is_floating_point()
        }

    def filled(self, cache: Tree, values: Mapping[Path, Array]) -> Tree:
        """A copy of ``cache`` that holds ``values``."""
        flat, form = pytree.tree_flatten_with_path(cache)
        return pytree.tree_unflatten([_with(_path(keys), x, values) for keys, x in flat], form)


def _with(path: Path, x: Tree, values: Mapping[Path, Array]) -> Tree:
    if path in values:
        return torch.from_numpy(np.array(values[path])).to(x)
    return x.clone() if isinstance(x, Tensor) else copy.deepcopy(x)


def _is_integer(x: Tree) -> bool:
    if isinstance(x, Tensor):
        return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)
    return isinstance(x, int) and not isinstance(x, bool)


def _path(keys: tuple[Tree, ...]) -> Path:
    return tuple(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in keys)


def _array(x: Tree) -> Array:
    return array(x) if isinstance(x, Tensor) else np.asarray(x)
