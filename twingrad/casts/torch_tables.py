"""Numbers that a PyTorch model computes from none of its parameters: its tables and masks.

A port may have the same table rounded to float32. PyTorch's, computed while casts are left out, has
the digits that the port's has lost, wherever in the model it is computed.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from twingrad.casts import log
from twingrad.casts.originals import MOST, is_rounded
from twingrad.foreign import Array
from twingrad.torch_arrays import array, copied


class Tables:
    """The tables that are ``found``, at most ``MOST`` numbers of them, each once.

    What the ``parameters`` went into is no table; the ``batch`` may go into one. Either is followed
    from one operation to the next by the memory of what comes out.
    """

    def __init__(self, parameters: Iterable[Tensor], batch: Iterable[Tensor]):
        self.found: list[Array] = []
        self._learnt = {_memory(x) for x in parameters}
        self._given = {_memory(x) for x in batch}
        self._known: set[tuple[tuple[int, ...], int]] = set()
        self._room = MOST

    def hear(self, inputs: Sequence[Tensor], results: Iterable[Tensor]) -> None:
        """An operation, by the tensors that go into it and come out."""
        memories = {_memory(x) for x in inputs}
        is_learnt = not memories.isdisjoint(self._learnt)
        is_given = not memories.isdisjoint(self._given)
        for x in inputs:
            if _memory(x) not in self._learnt | self._given and _is_rounded_constant(x):
                log.add_constant()
        for x in results:
            for memory, holds in ((self._learnt, is_learnt), (self._given, is_given)):
                # A new tensor may have the memory of one that is gone.
                (memory.add if holds else memory.discard)(_memory(x))
            if not is_learnt:
                self._keep(x)

    def _keep(self, x: Tensor) -> None:
        """Keep numbers that rounding would change, if they are not there already."""
        if x.dtype != torch.float64 or not 0 < x.numel() <= self._room or _memory(x) is None:
            return
        value = copied(x)
        with np.errstate(invalid="ignore"):
            has_digits = bool((value != np.round(value)).any())
        identity = (value.shape, hash(value.tobytes()))
        if has_digits and identity not in self._known:
            self._known.add(identity)
            self._room -= value.size
            self.found.append(value)


def _memory(x: Tensor) -> int | None:
    """What tells a tensor's memory from others'; views have that of what they are views of."""
    is_plain = x.layout == torch.strided and x.device.type != "meta"
    return int(x.untyped_storage()._cdata) if is_plain else None


def _is_rounded_constant(x: Tensor) -> bool:
    """Whether ``x`` has numbers that were rounded to float32."""
    if not x.is_floating_point() or _memory(x) is None or not 0 < x.numel() <= MOST:
        return False
    return bool(is_rounded(array(x.to(torch.float64))).any())


_open: list[Tables] = []


@contextmanager
def collecting(parameters: Iterable[Tensor], batch: Iterable[Tensor]) -> Iterator[list[Array]]:
    """The tables that are computed within, as long as casts are left out there.

    The log of casts hears of constants that have numbers of float32.
    """
    tables = Tables(parameters, batch)
    _open.append(tables)
    try:
        yield tables.found
    finally:
        _open.pop()


def hear(inputs: Sequence[Tensor], results: Iterable[Tensor]) -> None:
    """Tell whoever collects tables of an operation."""
    if _open:
        _open[-1].hear(inputs, results)
