"""Hold tensors against their twins; a failure prints the table that ``compare`` prints."""

import io

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
    outcome_tables.worst_tensors(console, gate, dtype, outcome_tables.RULES[dtype])
    names = [verdict.name for verdict in verdicts if not verdict.ok]
    console.print(
        f"{len(names)} of {len(verdicts)} tensors differ, first {names[0]}.", markup=False
    )
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
