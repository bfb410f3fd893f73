"""Axes merged, cut, joined and taken in another order."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    first,
    using,
)
from twingrad.foreign import Tree
from twingrad.torch_replay import Operation

Run = tuple[range, range]  # neighbouring axes before, and the ones that they become


def _runs(before: tuple[int, ...], after: tuple[int, ...]) -> list[Run]:
    """Groups of neighbouring axes that a reshape makes of one another."""
    runs, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start, end = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while math.prod(before[start:i]) != math.prod(after[end:j]):
            if math.prod(before[start:i]) < math.prod(after[end:j]) and i < len(before):
                i += 1
            elif j < len(after):
                j += 1
            else:
                return []
        runs.append((range(start, i), range(end, j)))
    return runs


def reshape(op: Operation) -> Iterator[Alternative]:
    """Axes that are merged in another order, or cut in another order."""
    x, y = first(op), op.result
    if not isinstance(y, Tensor) or 0 in x.shape:
        return
    for before, after in _runs(tuple(x.shape), tuple(y.shape)):
        wide = [a for a in before if x.shape[a] > 1]
        if len(wide) > 1 and len(after) >= 1:
            yield from _merges(x, list(before), wide)
        cut = [a for a in after if y.shape[a] > 1]
        if len(before) == 1 and len(cut) == 2:
            yield from _cuts(y, cut)


def _merges(x: Tensor, run: list[int], wide: list[int]) -> Iterator[Alternative]:
    for order in itertools.permutations(run):
        if list(order) == run or len(run) > 4:
            continue
        axes = list(range(x.ndim))
        axes[run[0] : run[-1] + 1] = order
        sizes = tuple(x.shape[a] for a in run)
        repeated = [a for a in wide if x.stride(a) == 0]
        if repeated:
            own = "each head repeated (0 0 1 1)"
            other = "the heads tiled (0 1 0 1)"
        else:
            turned = tuple(x.shape[a] for a in order)
            own = f"axes of {sizes} merged in their order"
            other = f"the order of axes {turned}"
            if run[0] == 1 and order == (*run[1:], run[0]) and x.ndim > 3:
                own, other = f"{sizes} flattened, channels first", "channels last, another order"
        yield Alternative(
            own, other, using(axes, lambda op, axes: op.again(input_0=first(op).permute(axes)))
        )


def _cuts(y: Tensor, cut: list[int]) -> Iterator[Alternative]:
    a, b = cut
    shape = list(y.shape)
    shape[a], shape[b] = shape[b], shape[a]
    yield Alternative(
        f"an axis cut into ({y.shape[a]}, {y.shape[b]})",
        f"one cut into ({y.shape[b]}, {y.shape[a]}), and the two swapped (interleaved)",
        lambda op: first(op).reshape(shape).transpose(a, b),
    )


def join(op: Operation) -> Iterator[Alternative]:
    """The parts that are joined in another order."""
    parts = op.argument("tensors", 0)
    for order in itertools.permutations(range(len(parts))):
        if len(parts) <= 4 and list(order) != list(range(len(parts))):
            halves = "its halves swapped" if len(parts) == 2 else f"the order {order}"
            yield Alternative(
                f"{len(parts)} parts joined in their order",
                halves,
                using(order, lambda op, order: op.again(tensors_0=[op.args[0][i] for i in order])),
            )
    axis = op.argument("dim", 1, 0)
    if op.name == "cat" and len({tuple(p.shape) for p in parts}) == 1:
        yield Alternative(
            f"{len(parts)} parts one after the other",
            "their numbers interleaved",
            lambda op: _interleaved(op.args[0], axis),
        )


def _interleaved(parts: list[Tensor], axis: int) -> Tensor:
    axis = axis % parts[0].ndim
    return torch.stack(list(parts), axis + 1).flatten(axis, axis + 1)


def split(op: Operation) -> Iterator[Alternative]:
    """Parts that are handed out in another order, or that take every other number."""
    parts = op.result
    if not isinstance(parts, tuple | list) or not 2 <= len(parts) <= 4:
        return
    for order in itertools.permutations(range(len(parts))):
        if list(order) != list(range(len(parts))):
            yield Alternative(
                f"{len(parts)} parts in their order",
                "its halves swapped" if len(parts) == 2 else f"parts in the order {order}",
                using(order, lambda op, order: _picked(op.plain(), order)),
            )
    if op.name in ("chunk", "split", "tensor_split"):
        axis = op.argument("dim", 2, 0) % first(op).ndim
        count = len(parts)
        yield Alternative(
            f"{count} parts one after the other",
            f"every {count}th number, interleaved",
            lambda op: tuple(
                first(op)[(slice(None),) * axis + (slice(i, None, count),)] for i in range(count)
            ),
        )


def _picked(parts: Tree, order: tuple[int, ...]) -> Tree:
    return tuple(parts[i] for i in order)


def repeat(op: Operation) -> Iterator[Alternative]:
    """Repeated one by one, or as a whole."""
    if op.name == "repeat_interleave":
        times, axis = op.argument("repeats", 1), op.argument("dim", 2)
        if not isinstance(times, int) or axis is None:
            return

        def tiled(op: Operation) -> Tensor:
            counts = [1] * first(op).ndim
            counts[axis] = times
            return first(op).repeat(*counts)

        yield Alternative("each head repeated (0 0 1 1)", "the heads tiled (0 1 0 1)", tiled)
        return
    x, y = first(op), op.result
    grown = [i for i in range(y.ndim) if y.ndim == x.ndim and y.shape[i] != x.shape[i]]
    for axis in grown:
        times = y.shape[axis] // x.shape[axis]
        if x.shape[axis] > 1:
            yield Alternative(
                "tiled as a whole (0 1 0 1)",
                "each repeated (0 0 1 1)",
                using((times, axis), lambda op, both: first(op).repeat_interleave(*both)),
            )


def transpose(op: Operation) -> Iterator[Alternative]:
    """The two axes not swapped, where both are as long."""
    if isinstance(op.result, Tensor) and op.result.shape == first(op).shape:
        yield Alternative("two axes swapped", "the axes as they are", lambda op: first(op).clone())


def take(op: Operation) -> Iterator[Alternative]:
    """Another position along an axis: the first, the last, the one before or after."""
    index = op.args[1]
    flat = index if isinstance(index, tuple) else (index,)
    if Ellipsis in flat and len(flat) > 2:
        return
    for place, i in enumerate(flat):
        if not isinstance(i, int) or isinstance(i, bool):
            continue
        for other, words in (
            (0, "the first"),
            (-1, "the last"),
            (i + 1, "the next"),
            (i - 1, "the one before"),
        ):
            if other != i:
                changed = (*flat[:place], other, *flat[place + 1 :])
                yield Alternative(
                    f"position {i} of an axis",
                    f"{words}, {other}",
                    using(changed, lambda op, changed: op.args[0][changed]),
                )  # fmt: skip


def pick(op: Operation) -> Iterator[Alternative]:
    """The first, the last or a neighbour, where positions are picked by a tensor of them."""
    yield from take(op)
    index = op.args[1]
    flat = index if isinstance(index, tuple) else (index,)
    if any(i is None or i is Ellipsis for i in flat):
        return
    for place, i in enumerate(flat):
        if not isinstance(i, Tensor) or i.is_floating_point() or i.dtype == torch.bool:
            continue
        last = op.args[0].shape[place] - 1
        listed = ", ".join(str(int(n)) for n in i.flatten()[:4])
        for words, other in (
            ("the last position of each", torch.full_like(i, last)),
            ("the first position of each", torch.zeros_like(i)),
            ("the positions after them", (i + 1).clamp(max=last)),
            ("the positions before them", (i - 1).clamp(min=0)),
        ):
            changed = (*flat[:place], other, *flat[place + 1 :])
            yield Alternative(
                f"positions {listed}{', ...' if i.numel() > 4 else ''} of axis {place}",
                words,
                using(changed, lambda op, changed: op.args[0][changed]),
            )


def positions(op: Operation) -> Iterator[Alternative]:
    """Counting from one more, or one less."""
    for by in (1, -1):
        yield Alternative(
            "positions from where PyTorch begins (arange)",
            f"positions {by:+d}",
            using(by, lambda op, by: op.plain() + by),
        )


def order(op: Operation) -> Iterator[Alternative]:
    """What is reversed, rolled or sorted is left as it is."""
    yield Alternative(f"{op.name}", "the order as it was", lambda op: first(op).clone())
    if op.name == "roll":
        yield Alternative(
            "rolled one way",
            "the other way",
            lambda op: op.again(shifts_1=_negative(op.argument("shifts", 1))),
        )


def _negative(shifts: Tree) -> Tree:
    return -shifts if isinstance(shifts, int) else tuple(-s for s in shifts)


def _cumulative(op: Operation) -> Iterator[Alternative]:
    axis = op.argument("dim", 1, 0)
    exclusive: Callable[[Operation], Tree] = lambda op: op.plain() - first(op)  # noqa: E731
    yield Alternative("a sum up to and with each position", "one without it", exclusive)
    yield Alternative(
        "a sum from the front",
        "one from the back",
        lambda op: first(op).flip(axis).cumsum(axis).flip(axis),
    )


FAMILY: dict[str, Alternatives] = {
    **dict.fromkeys(["reshape", "flatten"], reshape),
    **dict.fromkeys(["cat", "stack"], join),
    **dict.fromkeys(["chunk", "split", "tensor_split", "unbind"], split),
    **dict.fromkeys(["repeat_interleave", "repeat", "tile"], repeat),
    "transpose": transpose,
    "getitem": pick,
    "arange": positions,
    **dict.fromkeys(["flip", "roll"], order),
    "cumsum": _cumulative,
}
