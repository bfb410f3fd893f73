"""Convolutions, pooling and resizing with other padding, kernels, corners and counts."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    Settings,
    first,
    using,
)
from twingrad.foreign import ModuleCall, Tree
from twingrad.torch_replay import Operation

Pads = tuple[tuple[int, int], ...]  # before and after, axis by axis


def _each(value: Tree, axes: int) -> tuple[int, ...]:
    """A setting for every axis of the window."""
    if isinstance(value, int):
        return (value,) * axes
    return tuple(value) if len(value) == axes else tuple(value) * axes


def _pads(op: Operation) -> Pads:
    """What a convolution pads, axis by axis."""
    kernel = op.argument("weight", 1).shape[2:]
    padding, dilation = (
        op.argument("padding", 4, 0),
        _each(op.argument("dilation", 5, 1), len(kernel)),
    )
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        whole = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((n // 2, n - n // 2) for n in whole)
    return tuple((n, n) for n in _each(padding, len(kernel)))


def _same(op: Operation) -> Pads:
    """SAME as XLA and TensorFlow have it: by the stride, the odd one at the end."""
    x, kernel = first(op), op.argument("weight", 1).shape[2:]
    strides = _each(op.argument("stride", 3, 1), len(kernel))
    dilation = _each(op.argument("dilation", 5, 1), len(kernel))
    pads = []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilation, strict=True):
        whole = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pads.append((whole // 2, whole - whole // 2))
    return tuple(pads)


def _words(pads: Pads) -> str:
    return str(pads[0] if len(set(pads)) == 1 else pads)


def convolution(op: Operation) -> Iterator[Alternative]:
    """Padding, a kernel that is turned round or transposed, and no bias."""
    pads = _pads(op)
    own = f"a convolution that pads {_words(pads)}"
    least = [(0, a + b) for a, b in pads]
    choices: dict[Pads, str] = {
        _same(op): f"SAME padding, which is {_words(_same(op))} here",
        tuple((b, a) for a, b in _same(op)): "SAME padding with the odd one first",
        ((0, 0),) * len(pads): "no padding",
        tuple((a + b, 0) for a, b in pads): "all padding before (causal)",
        tuple(least): "all padding after",
    }
    for shift in (1, -1, 2):
        near = tuple((max(a + shift, 0), max(b + shift, 0)) for a, b in pads)
        choices.setdefault(near, f"padding {_words(near)}")
    for before, after in ((1, 0), (0, 1), (-1, 1), (1, -1), (0, -1), (-1, 0)):
        near = tuple((max(a + before, 0), max(b + after, 0)) for a, b in pads)
        choices.setdefault(near, f"padding {_words(near)}")
    for choice, words in choices.items():
        if choice != pads:
            yield Alternative(own, words, _padded(choice))
    for mode in ("reflect", "replicate", "circular"):
        if any(map(any, pads)):
            yield Alternative(f"{own} of zeros", f"{mode} padding", _padded(pads, mode))
    yield from _kernels(op)


def _padded(pads: Pads, mode: str = "constant") -> Callable[[Operation], Tensor]:
    def compute(op: Operation) -> Tensor:
        flat = list(itertools.chain.from_iterable(reversed(pads)))
        y: Tensor = op.again(input_0=F.pad(first(op), flat, mode=mode), padding_4=0)
        return y

    return compute


def _kernels(op: Operation) -> Iterator[Alternative]:
    """The kernel turned round, its two axes swapped, and the bias left out."""
    kernel = op.argument("weight", 1)
    axes = list(range(2, kernel.ndim))
    name = "a transposed convolution" if "transpose" in op.name else "a convolution"
    yield Alternative(
        f"{name} whose kernel is as PyTorch keeps it",
        "the kernel flipped along its window",
        lambda op: op.again(weight_1=op.argument("weight", 1).flip(axes)),
    )
    if kernel.ndim == 4 and kernel.shape[2] == kernel.shape[3] > 1:
        yield Alternative(
            f"{name} by its kernel",
            "the kernel's height and width swapped",
            lambda op: op.again(weight_1=op.argument("weight", 1).transpose(2, 3)),
        )
    if kernel.shape[0] == kernel.shape[1] > 1:
        yield Alternative(
            f"{name} by its kernel",
            "the kernel's input and output channels swapped",
            lambda op: op.again(weight_1=op.argument("weight", 1).transpose(0, 1)),
        )
        yield Alternative(
            f"{name} by its kernel",
            "the kernel flipped along its window, and its channels swapped",
            lambda op: op.again(weight_1=op.argument("weight", 1).transpose(0, 1).flip(axes)),
        )
    if op.argument("bias", 2) is not None:
        yield Alternative(f"{name} with its bias", "no bias", Settings("bias", 2).to(None))


def transposed(op: Operation) -> Iterator[Alternative]:
    """A transposed convolution: its kernel, and what is cut off at which end."""
    yield from _kernels(op)
    axes = first(op).ndim - 2
    padding = _each(op.argument("padding", 4, 0), axes)
    more = _each(op.argument("output_padding", 5, 0), axes)
    kernel = op.argument("weight", 1).shape[2:]
    for cut in itertools.product(range(max(kernel)), repeat=2):
        if cut != (padding[0], padding[0] - more[0]):
            for flipped in (False, True):
                words = f"one that is cut by {cut[0]} before and {cut[1]} after"
                words += ", by the kernel flipped along its window" if flipped else ""
                yield Alternative(
                    f"a transposed convolution with padding {padding[0]}",
                    words,
                    _cut(cut[0], cut[1], flipped),
                )


def _cut(before: int, after: int, flipped: bool) -> Callable[[Operation], Tensor]:
    def compute(op: Operation) -> Tensor:
        kernel = op.argument("weight", 1)
        kernel = kernel.flip(list(range(2, kernel.ndim))) if flipped else kernel
        y: Tensor = op.again(weight_1=kernel, padding_4=0, output_padding_5=0)
        for axis in range(2, y.ndim):
            y = y.narrow(axis, before, y.shape[axis] - before - after)
        return y

    return compute


def average_pool(op: Operation) -> Iterator[Alternative]:
    """Whether padded zeros are counted."""
    counts = op.argument("count_include_pad", 5, True)
    words = {True: "padded zeros counted", False: "padded zeros not counted"}
    yield Alternative(
        f"an average pool, {words[counts]}",
        words[not counts],
        Settings("count_include_pad", 5).to(not counts),
    )
    kernel = _each(op.argument("kernel_size", 1), first(op).ndim - 2)
    area = float(torch.tensor(kernel).prod())
    yield Alternative("an average pool", "a sum pool", lambda op: op.plain() * area)
    for counted in (True, False):
        yield from _shifted_pool(op, F.avg_pool2d if len(kernel) == 2 else F.avg_pool1d, counted)


def max_pool(op: Operation) -> Iterator[Alternative]:
    """Padding with zeros, where PyTorch pads with minus infinity, and SAME padding."""
    axes = int(op.name[8])
    if first(op).ndim != axes + 2:
        return
    kernel = _each(op.argument("kernel_size", 1), axes)
    given = op.argument("stride", 2)
    strides = kernel if given in (None, [], ()) else _each(given, axes)
    own = tuple((n, n) for n in _each(op.argument("padding", 3, 0), axes))
    same = []
    for n, k, s in zip(first(op).shape[2:], kernel, strides, strict=True):
        whole = max((-(-n // s) - 1) * s + k - n, 0)
        same.append((whole // 2, whole - whole // 2))
    for pads, words in (
        (own, f"padding {_words(own)}"),
        (tuple(same), f"SAME padding, which is {_words(tuple(same))} here"),
        (((0, 0),) * axes, "no padding"),
    ):
        for fill, with_what in ((0.0, "of zeros"), (-math.inf, "of minus infinity")):
            if any(map(any, pads)) or (fill and pads != own):
                yield Alternative(
                    f"a max pool whose padding {_words(own)} is of minus infinity",
                    f"{words} {with_what}" if any(map(any, pads)) else words,
                    using((pads, fill), _filled_max),
                )


def _filled_max(op: Operation, both: tuple[Pads, float]) -> Tree:
    """The largest of each window, with something else around the image."""
    pads, fill = both
    flat = list(itertools.chain.from_iterable(reversed(pads)))
    padded = F.pad(first(op), flat, value=fill)
    if len(op.args) > 3:
        return op.again(input_0=padded, padding_3=0)
    return op.function(padded, *op.args[1:], **{**op.kwargs, "padding": 0})


def _shifted_pool(op: Operation, function: ModuleCall, counted: bool) -> Iterator[Alternative]:
    """SAME padding, whose odd one is at the end."""
    x = first(op)
    if x.ndim not in (3, 4):
        return
    kernel = _each(op.argument("kernel_size", 1), x.ndim - 2)
    given = op.argument("stride", 2)
    strides = kernel if given in (None, [], ()) else _each(given, len(kernel))
    pads = []
    for n, k, s in zip(x.shape[2:], kernel, strides, strict=True):
        whole = max((-(-n // s) - 1) * s + k - n, 0)
        pads.append((whole // 2, whole - whole // 2))
    flat = list(itertools.chain.from_iterable(reversed(pads)))

    def compute(op: Operation) -> Tensor:
        total = function(F.pad(first(op), flat), kernel, strides)
        if counted:
            return torch.as_tensor(total)
        counts = function(F.pad(torch.ones_like(first(op)), flat), kernel, strides)
        return torch.as_tensor(total / counts)

    words = f"SAME padding, which is {_words(tuple(pads))} here"
    yield Alternative(
        "an average pool with its padding",
        f"{words}{'' if counted else ', not counted'}",
        compute,
    )


def resize(op: Operation) -> Iterator[Alternative]:
    """Corners, antialiasing, and how it interpolates."""
    mode, corners = op.argument("mode", 3, "nearest"), bool(op.argument("align_corners", 4))
    antialias = bool(op.argument("antialias", 6, False))
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    if smooth:
        words = {True: "its corners aligned", False: "half pixels, its corners not aligned"}
        yield Alternative(
            f"a resize with {words[corners]}",
            words[not corners],
            Settings("corners", 4).to(not corners)
            if len(op.args) > 4
            else lambda op: op.named(align_corners=not corners),
        )
    if mode in ("bilinear", "bicubic"):
        words = {True: "antialiased", False: "not antialiased"}
        yield Alternative(
            f"a resize that is {words[antialias]}",
            f"one that is {words[not antialias]} (antialias={not antialias})",
            lambda op: op.named(antialias=not antialias),
        )
    others = ("nearest", "nearest-exact", *_smooth(first(op).ndim))
    for other in others:
        if other != mode:
            plain = {**op.kwargs, "mode": other, "align_corners": None}
            yield Alternative(
                f"a resize by {mode}",
                f"one by {other}",
                using(plain, lambda op, plain: op.function(*op.args, **plain)),
            )
    if mode == "bicubic":
        yield Alternative(
            "a bicubic resize with a = -0.75", "one with a = -0.5 (Keys)", _keys_cubic
        )


def _smooth(ndim: int) -> Sequence[str]:
    return {3: ("linear",), 4: ("bilinear", "bicubic"), 5: ("trilinear",)}.get(ndim, ())


def _keys_cubic(op: Operation) -> Tensor:
    """Half pixels and Keys' kernel, weights renormalised at the border as JAX does."""
    x, size = first(op), op.plain().shape[2:]
    for axis, n in enumerate(size, start=2):
        x = torch.movedim(
            torch.movedim(x, axis, -1) @ _keys(x.shape[axis], n).to(x.dtype), -1, axis
        )
    return x


def _keys(old: int, new: int) -> Tensor:
    at = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    far = (at[None] - torch.arange(old, dtype=torch.float64)[:, None]).abs()
    near = ((1.5 * far - 2.5) * far) * far + 1
    outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
    weights = torch.where(far >= 2, torch.zeros_like(far), torch.where(far >= 1, outer, near))
    return weights / weights.sum(0, keepdim=True)


def shuffle(op: Operation) -> Iterator[Alternative]:
    """The channels of a pixel shuffle read in another order."""
    factor = op.argument("upscale_factor", 1)

    def block_first(op: Operation) -> Tensor:
        x = first(op)
        *batch, channels, height, width = x.shape
        x = x.reshape(-1, factor, factor, channels // factor**2, height, width)
        x = x.permute(0, 3, 4, 1, 5, 2)
        return x.reshape(*batch, channels // factor**2, height * factor, width * factor)

    yield Alternative(
        "a pixel shuffle that reads its channels as (C, r, r)",
        "the order (r, r, C), as depth_to_space has it",
        block_first,
    )


def padding(op: Operation) -> Iterator[Alternative]:
    """Padding at the other end, or of another kind."""
    pads, mode = list(op.argument("pad", 1)), op.argument("mode", 2, "constant")
    swapped = [n for i in range(0, len(pads), 2) for n in (pads[i + 1], pads[i])]
    if swapped != pads:
        yield Alternative(
            f"padding {tuple(pads)}", f"{tuple(swapped)}", Settings("pad", 1).to(swapped)
        )
    for other in {"constant", "reflect", "replicate", "circular"} - {mode}:
        yield Alternative(f"{mode} padding", f"{other} padding", Settings("mode", 2).to(other))


FAMILY: dict[str, Alternatives] = {
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], convolution),
    **dict.fromkeys([f"conv_transpose{n}d" for n in (1, 2, 3)], transposed),
    **dict.fromkeys(["avg_pool1d", "avg_pool2d", "avg_pool3d"], average_pool),
    **dict.fromkeys(["max_pool1d", "max_pool2d", "max_pool3d"], max_pool),
    **dict.fromkeys(["interpolate", "upsample"], resize),
    "pixel_shuffle": shuffle,
    "pad": padding,
}
