"""Orders of axes in which a JAX parameter can hold PyTorch's: what shapes and layers settle."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from twingrad.map import Axes, Flip, Reshape, Shape
from twingrad.partners import Leaf, Partner, Steps

# Above this many numbers, ways to lay out a tensor are not tried on its indices.
_TRIED = 1 << 22


def fits(torch: Leaf, jax: Leaf) -> bool:
    """Whether some order of the axes makes PyTorch's shape JAX's."""
    return math.prod(torch.shape) == math.prod(jax.shape) and bool(ways(torch, jax))


def ways(torch: Leaf, jax: Leaf) -> list[Steps]:
    """Ways to lay out PyTorch's tensor as JAX has it, the likeliest first, none twice."""
    found = _fitting(torch, jax)
    return _distinct(found, torch.shape) if len(found) > 1 else found


def is_settled(torch: Leaf, jax: Leaf) -> bool:
    """Whether the layers, which are their libraries' own, say how weights lie in both."""
    if len(torch.shape) < 2 or "table" in (torch.layout, jax.layout):
        return True
    if torch.layout == "in out window":
        return False
    return bool(torch.layout and jax.layout)


def partner(torch: Leaf, jax: Leaf, **places: object) -> Partner | None:
    """The two as partners, with other ways that would do as well; ``None`` if none does."""
    found = ways(torch, jax)
    if not found:
        return None
    others = () if is_settled(torch, jax) else tuple(found[1:])
    ends = [path.rpartition(".")[2] for path in (torch.path, jax.path)]
    # Where axes of one leave the order open but the numbers where they are, it says nothing.
    is_example = len(_fitting(torch, jax)) == 1
    made = Partner(
        torch=torch.path,
        jax=jax.path,
        shape=torch.shape,
        steps=found[0],
        others=others,
        family=(torch.owner, ends[0], jax.owner, ends[1]) if others or is_example else (),
    )
    return replace(made, **places)  # type: ignore[arg-type]


def by_family(partners: Sequence[Partner]) -> list[Partner]:
    """Partners with those settled whose like are: weights of one kind that are not square."""
    settled: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
    for p in partners:
        if p.family and not p.others:
            settled.setdefault(p.family, set()).add(_order(p.steps, p.shape))
    return [_settled(p, settled.get(p.family, set())) for p in partners]


def _settled(p: Partner, orders: set[tuple[int, ...]]) -> Partner:
    if not p.others or len(orders) != 1:
        return p
    (order,) = orders
    alike = [s for s in (p.steps, *p.others) if _order(s, p.shape) == order]
    return replace(p, steps=alike[0], others=()) if len(alike) == 1 else p


def _order(steps: Steps, shape: Shape) -> tuple[int, ...]:
    """The order of the axes after ``steps``; negative where they are flipped."""
    orders = [step.order for step in steps if isinstance(step, Axes)]
    flipped = any(isinstance(step, Flip) for step in steps)
    order = orders[0] if orders else tuple(range(len(shape)))
    return (*order, -1) if flipped else order


def _orders(torch: Leaf, jax: Leaf) -> list[Steps]:
    rank = len(torch.shape)
    if rank < 2:
        return [()]
    windows = tuple(range(2, rank))
    straight: Steps = ()
    turned: Steps = (Axes((*windows, 1, 0)),)
    if torch.layout == "in out window":
        out_last: Steps = (Axes((*windows, 0, 1)),)
        window_first, window_last = Flip(tuple(range(rank - 2))), Flip(windows)
        swapped: Steps = (Axes((1, 0, *windows)),)
        if jax.layout == "out in":
            return [(*swapped, window_last), swapped, straight, (window_last,)]
        return [
            (*out_last, window_first), out_last, turned, (*turned, window_first),
            straight, (window_last,), (*swapped, window_last), swapped,
        ]  # fmt: skip
    if torch.layout == "table" or jax.layout == "table":
        return [straight, turned]
    if torch.layout == "in out" or jax.layout == "out in":
        is_turned = (torch.layout == "in out") == (jax.layout == "out in")
    else:
        is_turned = jax.path.rpartition(".")[2] in ("kernel", "weight", "w") or rank > 2
    return [turned, straight] if is_turned else [straight, turned]


def _fitting(torch: Leaf, jax: Leaf) -> list[Steps]:
    found: list[Steps] = []
    for steps in _orders(torch, jax):
        shape = _after(steps, torch.shape)
        if _is_cut(shape, jax.shape):
            found.append(steps if shape == jax.shape else (*steps, Reshape(jax.shape)))
    return found


def _after(steps: Steps, shape: Shape) -> Shape:
    for step in steps:
        if isinstance(step, Axes):
            shape = tuple(shape[axis] for axis in step.order)
    return shape


def _is_cut(inner: Shape, outer: Shape) -> bool:
    """Whether ``outer`` is ``inner`` but for ones, or cuts its axes up, as heads out of a width."""
    wanted = [n for n in inner if n != 1]
    given = [n for n in outer if n != 1]
    while wanted:
        axis, product = wanted.pop(0), 1
        while given and product < axis:
            product *= given.pop(0)
        if product != axis:
            return False
    return not given


def _distinct(found: list[Steps], shape: Shape) -> list[Steps]:
    """The ways that give different tensors: axes of one can be anywhere."""
    if math.prod(shape) > _TRIED:
        return found
    indices = np.arange(math.prod(shape)).reshape(shape)
    kept: list[Steps] = []
    results: list[bytes] = []
    for steps in found:
        value = indices
        for step in steps:
            value = step.apply(value)
        if value.tobytes() not in results:
            results.append(value.tobytes())
            kept.append(steps)
    return kept
