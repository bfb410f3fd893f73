"""What a pair is judged by where it is judged in a lower precision than float64."""

from dataclasses import dataclass
from typing import TypedDict

PRECISIONS = ("float64", "float32", "bfloat16")


class BasisObject(TypedDict):
    """The basis of a judgement as the JSON contract has it."""

    precision: str
    oracle: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Basis:
    """The ``precision`` of a judgement, and whether PyTorch's float64 pass is its oracle.

    ``reason`` says why there is none.
    """

    precision: str
    has_oracle: bool
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What is judged by what, in a sentence."""
        start = f"Judged in {self.precision} alone"
        if self.has_oracle:
            return f"{start}, each side against PyTorch's float64 pass."
        return f"{start}, the two sides against one another: {self.reason}."

    def as_object(self) -> BasisObject:
        """The same as the JSON contract has it."""
        return {
            "precision": self.precision,
            "oracle": "torch float64" if self.has_oracle else None,
            "reason": self.reason or None,
        }


def require_precision(precision: str) -> None:
    """Raise ``ValueError`` for what is no precision of a pair."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: a pair is judged in {', '.join(PRECISIONS)}")
