"""Distances of tensors in units of rounding error, and the bounds that decide.

Every bound of the project stands in this file. u is the unit roundoff of the dtype under test: the
largest relative error of rounding one real number to it (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 2.1).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TypedDict

import numpy as np

from twingrad.foreign import Array, Tree

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tf32": 2.0**-11,  # the inputs of a matrix product, rounded to 11 significant bits
    "bfloat16": 2.0**-8,
}
# Under the smallest normal number a dtype has no relative precision left.
_SMALLEST_NORMAL = {"float64": 2.0**-1022}

# float64, one side against the other: relative.
FLOAT64_RELATIVE = 1e-12
FLOAT64_TRAJECTORY_RELATIVE = 1e-10
# One module's own computation, from the same numbers: what rounding does to it alone.
OWN_RELATIVE = {"float64": 1e-11, "float32": 64 * 2.0**-24, "bfloat16": 16 * 2.0**-8}
# Central differences lose half the digits: step² from one end, u/step from the other.
CENTRAL_DIFFERENCE_RELATIVE = 1e-7
# Lower precision, each side against the float64 oracle: at most RATIO times the other side's error,
# or FLOOR units where that is more ...
RATIO = 4.0
FLOOR_U = 4.0
# ... but the error of a handful of numbers is luck: one may be right to the last bit while a
# cancellation costs the other a few units. So small tensors have a higher floor ...
FEW = 16  # elements
FLOOR_OF_FEW_U = 16.0
# ... and under an absolute ceiling, in units, so that both cannot be wrong together.
CEILING_U = {"float32": 128.0, "tf32": 32.0, "bfloat16": 32.0}
# A trajectory may leave its twin by this much more than runs that began one ulp apart do.
ENVELOPE_FACTOR = 4.0
# A gradient this much smaller than all gradients together is rounding noise about an exact zero
# (the key bias, say): its error is then relative to all of them.
NOISE = 2.0**-40
# The same where no float64 result says that it is zero: rounding alone makes gradients this small.
NOISE_ROUNDED = {"float32": 2.0**-14, "bfloat16": 2.0**-4}
# What stands for an infinite or undefined error, since JSON has no word for it.
BEYOND = 1e300

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Size:
    """Euclidean norm and largest magnitude of a tensor."""

    l2: float
    peak: float

    def joined(self, other: "Size") -> "Size":
        """Norms of two parts of one tensor taken together."""
        return Size(math.hypot(self.l2, other.l2), max(self.peak, other.peak))

    def at_least(self, other: "Size") -> "Size":
        """The larger of either norm."""
        return Size(max(self.l2, other.l2), max(self.peak, other.peak))


def size(x: Array) -> Size:
    """Norms of ``x``, accumulated in float64."""
    return _norms(_chunks(x))


def distance(x: Array, y: Array) -> Size:
    """Norms of ``x - y``, taken in float64; infinite where the shapes differ or a value is NaN."""
    if x.shape != y.shape:
        return Size(math.inf, math.inf)
    pairs = zip(_chunks(x), _chunks(y), strict=True)
    norms = _norms(np.subtract(a, b, dtype=np.float64) for a, b in pairs)
    return norms if math.isfinite(norms.l2) else Size(math.inf, math.inf)


def plain(x: Tree) -> Array:
    """``x`` in NumPy, bfloat16 as float32: NumPy's own functions have no bfloat16."""
    array: Array = np.asarray(x)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def finite(x: Array) -> Array:
    """``x`` with zeros in place of NaN and infinity."""
    regular = np.isfinite(x)
    return x if regular.all() else np.where(regular, x, 0)


def without_shared(*arrays: Array) -> tuple[Array, ...]:
    """Arrays with zeros where all have NaN, or all the same infinity; others as they are.

    Two models that mask with -infinity agree there. Arrays of different shapes share nothing.
    """
    one, *others = arrays
    regular = np.isfinite(one)
    if regular.all() or any(x.shape != one.shape for x in others):
        return arrays
    shared = ~regular
    for other in others:
        shared &= (one == other) | (np.isnan(one) & np.isnan(other))
    return tuple(np.where(shared, 0, x) for x in arrays)


def blocks(shape: tuple[int, ...]) -> "Iterator[slice[int, int, None] | EllipsisType]":
    """Indices that cut an array of ``shape`` into rows few enough to stay in the cache."""
    elements = math.prod(shape)
    if not shape or elements <= _CHUNK:
        yield ...
        return
    rows = max(1, _CHUNK * shape[0] // elements)
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def _chunks(x: Array) -> Iterator[Array]:
    return (x[block] for block in blocks(x.shape))


def _norms(chunks: Iterator[Array]) -> Size:
    square, peak = 0.0, 0.0
    for chunk in chunks:
        wide = np.abs(chunk, dtype=np.float64)
        largest = float(wide.max(initial=0.0))
        if not largest <= 1e150:  # NaN, infinity, or its square would overflow
            return Size(math.inf, math.inf)
        peak = max(peak, largest)
        flat = wide.ravel(order="K")
        square += float(flat @ flat)
    return Size(math.sqrt(square), peak)


def in_units(error: float, scale: float, dtype: str) -> float:
    """``error`` relative to ``scale`` in units of u, whose size ends at the smallest normal."""
    if error == 0:
        return 0.0
    smallest = _SMALLEST_NORMAL.get(dtype, 2.0**-126)
    units = error / max(UNIT_ROUNDOFF[dtype] * scale, smallest)
    return units if units < BEYOND else BEYOND


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One tensor judged: errors of both sides in units of u, and the limit that each must keep.

    ``*_error_u`` are relative L2 errors, ``peak_error_u`` the larger side's largest single error
    relative to the largest value: it finds a local fault that the norm of a large tensor hides.
    ``error_ratio`` is how many times its limit the worst of them is: over 1 is a failure.
    """

    name: str
    kind: str
    torch_error_u: float
    jax_error_u: float
    mutual_error_u: float
    peak_error_u: float
    limit_u: float
    peak_limit_u: float
    ok: bool
    error_ratio: float


def scales(oracle: Mapping[str, Array], noise: float = NOISE) -> dict[str, Size]:
    """The scale of each tensor's error: its own size, or that of all tensors where it is noise."""
    sizes = {name: size(value) for name, value in oracle.items()}
    whole = Size(
        math.sqrt(sum(s.l2**2 for s in sizes.values())),
        max((s.peak for s in sizes.values()), default=0.0),
    )
    return {name: size if size.l2 > noise * whole.l2 else whole for name, size in sizes.items()}


@dataclass(frozen=True)
class Gaps:
    """How far two results are from a reference, and from one another."""

    torch: Size
    jax: Size
    mutual: Size

    def joined(self, other: "Gaps") -> "Gaps":
        """Gaps of two parts of one tensor taken together."""
        return Gaps(
            self.torch.joined(other.torch),
            self.jax.joined(other.jax),
            self.mutual.joined(other.mutual),
        )


def gaps(torch: Array, jax: Array, reference: Array | None = None) -> Gaps:
    """Gaps of the two results; without a reference each is compared with the other."""
    mutual = distance(torch, jax)
    if reference is None:
        return Gaps(mutual, mutual, mutual)
    return Gaps(distance(torch, reference), distance(jax, reference), mutual)


def judge_float64(
    name: str, kind: str, apart: Gaps, scale: Size, relative: float = FLOAT64_RELATIVE
) -> Verdict:
    """Two float64 results within ``relative`` of one another and of the reference."""
    limit = relative / UNIT_ROUNDOFF["float64"]
    return _verdict(name, kind, apart, scale, "float64", limit, limit, True)


def judge_alike(name: str, kind: str, apart: Gaps, scale: Size, dtype: str) -> Verdict:
    """Results that should be one, where nothing more precise is known: each within the ceiling.

    In float64 the rule is that of ``judge_float64``.
    """
    if dtype == "float64":
        return judge_float64(name, kind, apart, scale)
    return _verdict(name, kind, apart, scale, dtype, CEILING_U[dtype], CEILING_U[dtype], True)


def judge_mutual(name: str, kind: str, apart: Gaps, scale: Size, dtype: str) -> Verdict:
    """Two rounded results against one another, where no float64 result is there to judge by.

    The limit is that of a module's own computation.
    """
    limit = OWN_RELATIVE[dtype] / UNIT_ROUNDOFF[dtype]
    return _verdict(name, kind, apart, scale, dtype, limit, CEILING_U[dtype], True)


def judge_rounded(
    name: str, kind: str, apart: Gaps, scale: Size, dtype: str, elements: int
) -> Verdict:
    """Two rounded results against the float64 oracle, and against each other's error."""
    smaller = min(apart.torch.l2, apart.jax.l2)
    limit = _rounded_limit(in_units(smaller, scale.l2, dtype), dtype, elements)
    return _verdict(name, kind, apart, scale, dtype, limit, CEILING_U[dtype])


def counted_in(verdict: Verdict, dtype: str, units: str) -> Verdict:
    """``verdict``, which counts in units of ``dtype``, with the same errors in those of ``units``.

    What it says stays the same: errors and limits are multiplied alike.
    """
    size = UNIT_ROUNDOFF[dtype] / UNIT_ROUNDOFF[units]
    if size == 1:
        return verdict
    return replace(
        verdict,
        torch_error_u=verdict.torch_error_u * size,
        jax_error_u=verdict.jax_error_u * size,
        mutual_error_u=verdict.mutual_error_u * size,
        peak_error_u=verdict.peak_error_u * size,
        limit_u=verdict.limit_u * size,
        peak_limit_u=verdict.peak_limit_u * size,
    )


def judge_coarse(
    name: str, kind: str, apart: Size, floors: tuple[Size, Size], scale: Size, elements: int
) -> Verdict:
    """Two float64 results of models that have numbers of float32 in them, ``apart`` by so much.

    ``floors`` are how far either model's float32 result is from its own of float64: float64 shows
    no more than what that rounding moves. Units are float64's.
    """
    floor = max(floor.l2 for floor in floors)
    limit = _rounded_limit(in_units(floor, scale.l2, "float32"), "float32", elements)
    units = UNIT_ROUNDOFF["float32"] / UNIT_ROUNDOFF["float64"]
    both = Gaps(apart, apart, apart)
    peak_limit = CEILING_U["float32"] * units
    return _verdict(name, kind, both, scale, "float64", limit * units, peak_limit)


def _rounded_limit(other_error_u: float, dtype: str, elements: int) -> float:
    """The limit of a rounded result's error, in units, beside another result's error."""
    floor = FLOOR_OF_FEW_U if elements < FEW else FLOOR_U
    return min(CEILING_U[dtype], max(RATIO * other_error_u, floor))


class ContestantVerdict(TypedDict):
    """One tensor of a benchmark's contestant judged, as its record has it."""

    name: str
    error_u: float
    peak_error_u: float
    limit_u: float
    ok: bool


def judge_contestant(
    name: str, error: Size, plain_error: float, scale: Size, dtype: str, elements: int
) -> ContestantVerdict:
    """One result against the float64 oracle, by the rule of ``judge_rounded``.

    ``plain_error`` (L2), of a plain run in the same dtype, stands in for the other framework's.
    """
    limit = _rounded_limit(in_units(plain_error, scale.l2, dtype), dtype, elements)
    error_u, peak = in_units(error.l2, scale.l2, dtype), in_units(error.peak, scale.peak, dtype)
    ok = error_u <= limit and peak <= CEILING_U[dtype]
    return {"name": name, "error_u": error_u, "peak_error_u": peak, "limit_u": limit, "ok": ok}


def judge_step(
    name: str, kind: str, torch: float, jax: float, oracle: float, limit: float, dtype: str
) -> Verdict:
    """A metric of one training step in both frameworks, at most ``limit`` units apart.

    Their distances from the float64 trajectory are reported beside it.
    """
    values = gaps(np.asarray(torch), np.asarray(jax), np.asarray(oracle))
    scale = size(np.asarray(oracle)).l2
    torch_error, jax_error, apart = (
        in_units(gap.l2, scale, dtype) for gap in (values.torch, values.jax, values.mutual)
    )
    return Verdict(
        name=name,
        kind=kind,
        torch_error_u=torch_error,
        jax_error_u=jax_error,
        mutual_error_u=apart,
        peak_error_u=apart,
        limit_u=limit,
        peak_limit_u=limit,
        error_ratio=_over(apart, limit),
        ok=apart <= limit,
    )


def _verdict(
    name: str,
    kind: str,
    apart: Gaps,
    scale: Size,
    dtype: str,
    limit: float,
    peak_limit: float,
    as_one: bool = False,
) -> Verdict:
    sides = (apart.torch, apart.jax)
    torch_error, jax_error = (in_units(side.l2, scale.l2, dtype) for side in sides)
    mutual_error = in_units(apart.mutual.l2, scale.l2, dtype)
    peak = max(in_units(side.peak, scale.peak, dtype) for side in sides)
    # With a reference both can keep their distance from it and still be apart.
    bounded = [torch_error, jax_error, *([mutual_error] if as_one else [])]
    error_ratio = max(_over(max(bounded), limit), _over(peak, peak_limit))
    return Verdict(
        name=name,
        kind=kind,
        torch_error_u=torch_error,
        jax_error_u=jax_error,
        mutual_error_u=mutual_error,
        peak_error_u=peak,
        limit_u=limit,
        peak_limit_u=peak_limit,
        error_ratio=error_ratio,
        ok=error_ratio <= 1,
    )


def _over(error: float, limit: float) -> float:
    """How many times its limit an error is."""
    return BEYOND if error >= BEYOND else error / limit


def envelope(run: Array, neighbours: Array, dtype: str) -> Array:
    """Per step, how far in units of u a correct twin's metric may stray from ``run`` [N].

    ``neighbours`` [K, N] are the metrics of the same framework from starts moved by one ulp: what
    they stray is what rounding alone does to this run, and it can only grow along the way.
    """
    u = UNIT_ROUNDOFF[dtype]
    strayed = (np.abs(neighbours - run) / (u * np.abs(run))).max(axis=0)
    return ENVELOPE_FACTOR * np.maximum(np.maximum.accumulate(strayed), FLOOR_U)


def one_ulp_away(params: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """``params`` with every number moved to a neighbouring one, up or down at random."""
    random = np.random.default_rng(seed)
    moved = {}
    for name, value in params.items():
        up = random.integers(2, size=value.shape, dtype=np.int8).astype(bool)
        direction = np.where(up, np.inf, -np.inf).astype(value.dtype)
        moved[name] = np.asarray(np.nextafter(value, direction))
    return moved
