"""A finding: one place where the two models part, with its cause and evidence."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One divergence: at which stage and where, by what cause, and how that is known."""

    stage: str
    where: str
    cause: str | None
    evidence: str


def statistics(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Both tensors in a few numbers."""

    def told(x: np.ndarray) -> str:
        x = x.astype(np.float64)
        return f"mean {x.mean():.4g}, deviation {x.std():.4g}" if x.size > 1 else f"{x:.12g}"

    shape = "" if ours.shape == () else f" of shape {ours.shape}"
    return f"PyTorch{shape} {told(ours)}; JAX {told(theirs)}"


def located(findings: list[Finding]) -> str:
    """The first finding in one line, for a table or an assertion."""
    if not findings:
        return "no divergence"
    first = findings[0]
    return f"{first.stage} of {first.where}: {first.cause or 'no known cause fits'}"


def as_object(findings: list[Finding], seconds: float, environment: Any) -> dict[str, Any]:
    """The findings as the JSON contract has them."""
    rows = [vars(finding) for finding in findings]
    return {
        "ok": not rows,
        "seconds": round(seconds, 1),
        "findings": rows,
        "environment": environment,
    }
