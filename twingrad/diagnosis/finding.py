"""A finding: one place where the two models part, with its cause and evidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NotRequired, TypedDict

import numpy as np

from twingrad.basis import BasisObject
from twingrad.foreign import Array

Stage = Literal["forward", "backward", "state", "update", "decoding", "trajectory"]
Mode = Literal["evaluation", "training"]


class Form(StrEnum):
    """Sentence that a cause is composed to."""

    VALUES = "PyTorch's is {torch}, JAX's {jax}"
    RULES = "PyTorch follows {torch}, JAX {jax}"
    RECIPES = "PyTorch follows {torch}; JAX follows {jax}"
    STATEMENT = "{torch}"


@dataclass(frozen=True)
class Cause:
    """Why two models part: what each of them computes, or one statement about both."""

    torch: str
    jax: str
    form: Form = Form.VALUES

    @classmethod
    def statement(cls, text: str) -> "Cause":
        """A cause that is one sentence, the same for both frameworks."""
        return cls(text, text, Form.STATEMENT)

    def __str__(self) -> str:
        return self.form.format(torch=self.torch, jax=self.jax)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One divergence: at which stage and where, by what cause, and how that is known.

    ``reason`` holds the cause framework by framework, ``cause`` is its sentence. ``dtype`` and
    ``mode`` are those of the pass in which the divergence shows. ``size`` is how many times its
    limit the error is, infinite where shapes differ or a value is not finite; 0 if not measured.
    """

    stage: Stage
    where: str
    reason: Cause | None
    evidence: str
    dtype: str = "float64"
    mode: Mode = "evaluation"
    size: float = 0.0

    @property
    def cause(self) -> str | None:
        """The cause as a sentence, if one is known."""
        return None if self.reason is None else str(self.reason)


@dataclass(frozen=True)
class Note:
    """Something that a reader should know and that makes no two models unequal.

    ``where`` is a module, a parameter or a buffer by its name; ``note`` is a sentence about it.
    """

    where: str
    note: str


class FindingObject(TypedDict):
    """A finding as the JSON contract has it; ``size`` is None where it is not finite."""

    stage: str
    where: str
    cause: str | None
    evidence: str
    size: float | None


class NoteObject(TypedDict):
    """A note as the JSON contract has it."""

    where: str
    note: str


class PartObject(TypedDict):
    """The part of the models that was looked at, as the JSON contract has it."""

    until: str | None
    only: str | None
    modules: list[str]


class Report(TypedDict):
    """Everything that ``diagnose --json`` writes; ``part`` where a part alone was looked at."""

    ok: bool
    seconds: float
    findings: list[FindingObject]
    notes: list[NoteObject]
    environment: object
    part: NotRequired[PartObject]
    basis: NotRequired[BasisObject]


def statistics(torch: Array, jax: Array) -> str:
    """LivePair tensors in a few numbers."""

    def summary(x: Array) -> str:
        x = x.astype(np.float64)
        return f"mean {x.mean():.4g}, deviation {x.std():.4g}" if x.size > 1 else f"{x:.12g}"

    shape = "" if torch.shape == () else f" of shape {torch.shape}"
    return f"PyTorch{shape} {summary(torch)}; JAX {summary(jax)}"


def located(findings: Sequence[Finding]) -> str:
    """The first finding in one line, for a table or an assertion."""
    if not findings:
        return "no divergence"
    first = findings[0]
    return f"{first.stage} of {first.where}: {first.cause or 'no known cause fits'}"


def as_object(
    findings: Sequence[Finding], seconds: float, environment: object, notes: Sequence[Note] = ()
) -> Report:
    """The findings and notes as the JSON contract has them."""
    return {
        "ok": not findings,
        "seconds": round(seconds, 1),
        "findings": [
            {
                "stage": f.stage,
                "where": f.where,
                "cause": f.cause,
                "evidence": f.evidence,
                "size": f.size if math.isfinite(f.size) else None,
            }
            for f in findings
        ],
        "notes": [{"where": n.where, "note": n.note} for n in notes],
        "environment": environment,
    }
