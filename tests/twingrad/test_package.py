"""The package: which names it has, and that importing them loads no framework before its time."""

import subprocess
import sys
from pathlib import Path

import pytest

import twingrad

ROOT = Path(__file__).parents[2]
PLAIN = (
    "api",
    "result",
    "notebook",
    "numerics",
    "outcome",
    "files",
    "pair",
    "environment",
    "page",
    "cli.main",
    "cli.options",
)


@pytest.mark.parametrize("statement", ["import twingrad", *(f"import twingrad.{m}" for m in PLAIN)])
def test_what_needs_no_framework_loads_none(statement):
    code = f"import sys; {statement}; print({{'torch', 'jax', 'flax', 'optax'}} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_public_names_are_these():
    functions = ["assert_equal", "assert_equal_models", "compare", "diagnose"]
    assert sorted(twingrad.__all__) == [
        "Comparison",
        "Decode",
        "Findings",
        "NotEqual",
        "Pair",
        "To",
        *functions,
    ]
    assert {*twingrad.__all__} <= {*dir(twingrad)}


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'parity'"):
        twingrad.parity  # noqa: B018 - the access is what is tested
