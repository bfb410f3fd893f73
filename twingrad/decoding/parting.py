"""Where the logits of decoding part from those that they should be."""

from collections.abc import Iterator
from dataclasses import dataclass

from twingrad import numerics
from twingrad.decoding.decoded import Decoded, Stretch
from twingrad.foreign import Array
from twingrad.numerics import Gaps, Size, Verdict
from twingrad.sides import Framework


@dataclass(frozen=True, kw_only=True)
class Parted:
    """The first position of one call at which two results part that should be one."""

    stretch: Stretch
    position: int
    sides: tuple[Framework, ...]  # those that part from their own forward passes; or both
    own: bool  # whether it is from their own forward passes
    values: Array
    reference: Array
    ratio: float

    @property
    def place(self) -> tuple[str, int]:
        """The call and the position."""
        return self.stretch.name, self.position


def judged(name: str, gaps: Gaps, scale: Size, dtype: str) -> Verdict:
    """The verdict on logits, by how far they are from what they should be."""
    return numerics.judge_alike(name, "logits", gaps, scale, dtype)


def one(values: Array, truth: Array, dtype: str) -> Verdict:
    """The verdict on whether two results are equal."""
    gap = numerics.distance(values, truth)
    return judged("", Gaps(gap, gap, gap), numerics.size(truth), dtype)


def apart(
    stretch: Stretch, reference: Array, sides: tuple[Framework, ...], own: bool, dtype: str
) -> Iterator[Parted]:
    """The positions of a call at which it is not what ``reference`` is."""
    for number in range(stretch.logits.shape[1]):
        values, truth = stretch.logits[:, number], reference[:, number]
        verdict = one(values, truth, dtype)
        if not verdict.ok:
            yield Parted(
                stretch=stretch, position=stretch.first + number, sides=sides, own=own,
                values=values, reference=truth, ratio=verdict.error_ratio,
            )  # fmt: skip


def from_its_own(decoded: Decoded, side: Framework, dtype: str) -> Parted | None:
    """Where a side first parts from its own forward pass."""
    for stretch in decoded.stretches:
        found = next(apart(stretch, decoded.reference(stretch), (side,), True, dtype), None)
        if found is not None:
            return found
    return None
