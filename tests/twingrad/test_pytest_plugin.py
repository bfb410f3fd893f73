"""The pytest plugin: what it loads, and what a failed claim looks like."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
# An environment whose package was installed before the plugin was there has no entry for it.
ENTRY = any(entry.name == "twingrad" for entry in entry_points(group="pytest11"))
LOADED = () if ENTRY else ("-p", "twingrad.pytest_plugin")

INI = """
[pytest]
addopts = --strict-markers
filterwarnings =
    error
    ignore:Module already imported so cannot be rewritten. _editable_impl
"""
PAIR = """
import numpy as np
import torch
from flax import nnx

from twingrad import Pair

pair = Pair(
    torch=torch.nn.Linear(3, 2),
    jax=nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
    torch_loss=lambda model, x: model(x).sum(),
    jax_loss=lambda model, x: {factor} * model(x).sum(),
    batch=[np.ones((4, 3))],
)
"""
TESTS = """
import pytest
import sys


def test_nothing_is_loaded_before_it_is_asked_for():
    assert "twingrad.result" not in sys.modules


@pytest.mark.pair("right.py")
def test_right():
    pass


@pytest.mark.pair("wrong.py")
def test_wrong():
    raise RuntimeError("not reached")


@pytest.mark.pair("absent.py")
def test_absent():
    pass


@pytest.mark.pair("right.py", "wrong.py")
def test_two_files():
    pass


def test_by_the_fixture(assert_equal_models):
    import twingrad

    assert assert_equal_models is twingrad.assert_equal_models


def test_claimed_otherwise():
    from twingrad import Comparison, Findings, NotEqual
    from twingrad.diagnosis.finding import Finding

    finding = Finding(stage="forward", where="norm", reason=None, evidence="far apart")
    raise NotEqual(Comparison(name="pair", outcomes=[], findings=Findings([finding])))
"""


@pytest.fixture
def project(pytester):
    pytester.makepyfile(right=PAIR.format(factor=1), wrong=PAIR.format(factor=2), test_port=TESTS)
    pytester.makeini(INI)
    return pytester


def _run(project, *words):
    for name in [name for name in sys.modules if name.startswith("twingrad")]:
        del sys.modules[name]  # pytester puts them back
    return project.runpytest_inprocess(*LOADED, "-p", "no:cacheprovider", "-q", *words)


def test_claims_hold_or_fail_with_the_table(project):
    result = _run(project)
    result.assert_outcomes(passed=3, failed=4)
    said = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "In float64, gate float64, the sides first diverge forward at loss, backward at bias.",
            "*twingrad diagnose *wrong.py*",
            "*loss *no known cause*",
            "*test_port.py:14: NotEqual: forward of loss: no known cause*",
            "twingrad: there is no pair file *absent.py*",
            "pytest.mark.pair takes one pair file, *",
            "*forward *norm *no known cause*",
            "*test_port.py:40: NotEqual: forward of norm: *",
            "FAILED test_port.py::test_wrong - NotEqual: forward of loss*",
        ]
    )
    for hidden in ("not reached", "engine.py", "During handling"):
        assert hidden not in said
    assert said.count("\n") < 100


BROKEN = """
@pytest.mark.pair("broken.py")
def test_broken():
    pass
"""


def test_an_error_of_the_pairs_own_code_is_shown_with_its_lines(project):
    text = "def width():\n    return {}['lost']\n\npair = width()\n"
    project.makepyfile(broken=text, test_broken=f"import pytest\n{BROKEN}")
    result = _run(project, "test_broken.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "twingrad: *broken.py raised KeyError: 'lost' (*broken.py, line 2): fix the file",
            "  *broken.py:4 in <module>: pair = width()",
            "  *broken.py:2 in width: return *lost*",
        ],
        consecutive=True,
    )


def test_a_whole_traceback_is_shown_to_who_asks_for_it(project):
    said = _run(project, "--full-trace", "-k", "otherwise").stdout.str()
    assert "raise NotEqual(" in said
    assert "pluggy" in said


@pytest.mark.slow
def test_without_the_plugin_its_marker_is_unknown(project):
    words = ("-p", "no:twingrad", "-p", "no:cacheprovider", "-q", "-k", "fixture")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=project.path, capture_output=True, text=True
    )
    assert "'pair' not found in `markers`" in done.stdout + done.stderr


def test_the_plugin_loads_no_framework_and_nothing_else_of_the_library():
    code = (
        "import sys, pytest; before = {*sys.modules}; import twingrad.pytest_plugin; "
        "print(sorted(n for n in {*sys.modules} - before if n.startswith('twingrad')), "
        "{'torch', 'jax', 'flax', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "['twingrad', 'twingrad.foreign', 'twingrad.pytest_plugin'] set()\n"
