"""Hold tensors against their twins; a failure prints the table that ``compare`` prints."""

import io

import numpy as np
import pytest
from rich.console import Console

from twingrad import numerics, outcome_tables
from twingrad.numerics import Verdict
from twingrad.outcome import Gate


def assert_equal(verdicts: list[Verdict], dtype: str) -> None:
    """Fail with the table of the tensors nearest to their limits, and without a traceback."""
    gate = Gate(name=dtype, tensors=verdicts)
    if gate.ok:
        return
    text = io.StringIO()
    console = Console(file=text, width=100, color_system=None)
    names = [verdict.name for verdict in verdicts if not verdict.ok]
    console.print(
        f"{len(names)} of {len(verdicts)} tensors differ, first {names[0]}.", markup=False
    )
    outcome_tables.worst_tensors(console, gate, dtype, outcome_tables.RULES[dtype])
    pytest.fail(text.getvalue(), pytrace=False)


def judge_float32(torch, jax, exact, scales=None) -> list[Verdict]:
    """Verdicts of the float32 rule, by name, on two sides' tensors and those of float64."""
    scales = scales or {}
    return [
        numerics.judge_rounded(
            name,
            "",
            numerics.gaps(torch[name], jax[name], value),
            scales.get(name) or numerics.size(value),
            "float32",
            value.size,
        )
        for name, value in exact.items()
    ]


def assert_states_equal(ours, theirs, relative: float) -> None:
    """Hold parameters and moments of two trainings, float64; ``relative`` 0 is exact equality."""
    parts = ("params", "first_moment", "second_moment")
    pairs = [(part, getattr(ours, part), getattr(theirs, part)) for part in parts]
    assert all(one.keys() == other.keys() for _, one, other in pairs)
    judged = [
        numerics.judge_float64(
            f"{part} {name}",
            "update",
            numerics.gaps(one[name], other[name]),
            numerics.size(other[name]),
            relative or _SMALLEST,
        )
        for part, one, other in pairs
        for name in one
    ]
    assert_equal(judged, "float64")


def assert_steps_equal(ours, theirs, relative: float) -> None:
    """Hold losses and gradient norms, float64 [steps, 2], at every step."""
    assert ours.shape == theirs.shape
    limit = relative / numerics.UNIT_ROUNDOFF["float64"]
    judged = [
        numerics.judge_step(f"{what}[{step}]", "loss", one, other, other, limit, "float64")
        for step in range(len(ours))
        for what, one, other in zip(("loss", "norm"), ours[step], theirs[step], strict=True)
    ]
    assert_equal(judged, "float64")


_SMALLEST = float(np.finfo(np.float64).tiny)  # a limit that no difference at all keeps
