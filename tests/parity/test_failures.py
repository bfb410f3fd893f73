"""A test of equality that fails prints the table of ``compare``, and no traceback."""

import pytest

from tests.helpers import failures

FILE = """
import numpy as np
from tests.conftest import assert_same64
from tests.helpers import commands, verdicts

ONES = {f"h.{n}.weight": np.ones(9) for n in range(99)}
LATER = ONES | {"h.7.weight": np.ones(9) + 1e-3}

def test_tensors(assert_same64):
    assert_same64(LATER, ONES)

def test_steps():
    steps = np.ones((99, 2))
    verdicts.assert_steps_equal(steps, steps, 1e-10)
    verdicts.assert_steps_equal(steps * np.linspace(1, 1.1, 99)[:, None], steps, 1e-10)

class State:
    def __init__(self, tensors):
        self.params = self.first_moment = self.second_moment = tensors

def test_states():
    verdicts.assert_states_equal(State(ONES), State(ONES), 0)
    verdicts.assert_states_equal(State(LATER), State(ONES), 0)

def test_command(capsys, monkeypatch):
    monkeypatch.setattr(commands, "main", lambda words: print("DIFFERS", words) or 1)
    commands.equal(capsys, "simple-net", "--dtype", "float64")
"""


WORDS = (
    *("h.7.weight", "1 of 99 tensors differ, first h.7.weight."),
    *("loss[98]", "196 of 198 tensors differ, first loss[1]."),
    *("params h.7.weight", "3 of 297 tensors differ"),
    "DIFFERS ['compare', 'simple-net', '--dtype', 'float64']",
)


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_failure_is_a_table(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str):
    monkeypatch.setenv("CI", ci)  # where it is set, pytest's own list of failures is not shortened
    pytester.makepyfile(test_it=FILE)
    result = pytester.runpytest_inprocess(
        "-p", "no:warnings", "-p", "no:cacheprovider", plugins=[failures]
    )
    printed = result.stdout.str()
    result.assert_outcomes(failed=4)
    for word in WORDS:
        assert word in printed
    for line in ("Traceback", "def test_", "verdicts.py", ">  "):
        assert line not in printed
    assert len(printed.splitlines()) < 100, printed
