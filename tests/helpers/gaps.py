"""Gaps of a given size, to show the rules of ``twingrad.numerics`` what they must pass."""

from twingrad.numerics import UNIT_ROUNDOFF, Gaps, Size

ONE = Size(1.0, 1.0)


def off(torch: float, jax: float, mutual: float = 0.0, dtype: str = "float32") -> Gaps:
    """Gaps of that many units from the reference, in L2 and at the peak alike."""
    u = UNIT_ROUNDOFF[dtype]
    return Gaps(*(Size(error * u, error * u) for error in (torch, jax, mutual)))
