"""PyTorch without casts below float64.

Code that says ``x.float()`` or ``softmax(..., dtype=torch.float32)`` computes in float32 whatever
it is given. A dispatch mode sees every operation below autograd: what would make a tensor of lower
precision makes one of float64 here, so that the code's own formula is judged and not its rounding.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from twingrad.casts import log, torch_tables
from twingrad.foreign import ModuleCall, Tree

_LOWER = {getattr(torch, name): name for name in log.LOWER}
# Made a lower precision of, what follows is computed in it; truth values are exact in any.
_HEARD = (torch.float64, torch.int64, torch.int32)


class _Lifted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations whose results have float64 where a lower precision was asked for."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch's answer is yes, and loads its compiler for it: a second that few pairs need."""
        return False

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ) -> Tree:
        return _run(func, args, dict(kwargs or {}))


class _LiftedUncompiled(_Lifted):  # type: ignore[no-untyped-call]
    """The same for models that PyTorch's compiler may look at, which it then leaves alone."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return True

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ) -> Tree:
        return _run(func, args, dict(kwargs or {}))


def _run(operation: ModuleCall, args: tuple[Tree, ...], kwargs: dict[str, Tree]) -> Tree:
    asked = kwargs.get("dtype")
    if asked in _LOWER:
        kwargs["dtype"] = torch.float64
        if any(isinstance(x, Tensor) and x.dtype in _HEARD for x in args):
            log.add(_LOWER[asked])
    tensors = _tensors((args, kwargs))
    kinds = {x.dtype for x in tensors}
    if torch.float64 in kinds and kinds & _LOWER.keys() and not operation._schema.is_mutable:  # type: ignore[attr-defined]
        args, kwargs = pytree.tree_map_only(Tensor, _raised, (args, kwargs))
    results = operation(*args, **kwargs)
    torch_tables.hear(tensors, _tensors(results))
    return results


def _tensors(tree: Tree) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor)]


def _raised(x: Tensor) -> Tensor:
    return x.to(torch.float64) if x.dtype in _LOWER else x


@contextmanager
def left_out() -> Iterator[None]:
    """Within, no operation makes a tensor of lower precision; casts are told to the log.

    What is made without a dtype is of float64 too.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (_LiftedUncompiled if "torch._dynamo" in sys.modules else _Lifted)():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(before)
