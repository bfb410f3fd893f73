"""The quick set, the long set, and the parts of it: which tests a call runs, and what it says."""

import re

import pytest

from tests.helpers import selection

CONFTEST = """
from tests.helpers import processor_time, selection

def pytest_addoption(pluginmanager):
    for plugin in (processor_time, selection):
        pluginmanager.register(plugin)
"""
FILE = """
import pytest

def test_quick():
    pass

@pytest.mark.slow
@pytest.mark.parametrize("case", [1, 2])
def test_long(case):
    pass

@pytest.mark.slow
def test_longer():
    pass

@pytest.mark.slow("4", "5*")
@pytest.mark.parametrize("case", [3, 4])
def test_some(case):
    pass
"""
LEFT = "4 slow tests were left for the long run: `pytest -m slow` runs them"


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs pytest on quick and slow tests: the names of what passed, and the output."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  slow: slow\n  one_setup: together\n")
    pytester.makepyfile(test_it=FILE, test_other="def test_quick_too(): pass")

    def names(*arguments: str) -> tuple[set[str], str]:
        result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *arguments)
        output = result.stdout.str()
        return set(re.findall(r"(test_\w+(?:\[\d\])?) PASSED", output)), output

    return names


def test_slow_tests_are_left_and_the_last_lines_say_so(run):
    names, output = run()
    assert names == {"test_quick", "test_quick_too", "test_some[3]"}
    assert LEFT in output


SLOW = {"test_long[1]", "test_long[2]", "test_longer", "test_some[4]"}
ALL = SLOW | {"test_quick", "test_quick_too", "test_some[3]"}


@pytest.mark.slow("-n1 --all-*")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (["--all"], ALL),
        (["-m", "slow"], SLOW),
        (["test_it.py::test_longer"], {"test_longer"}),
        (["test_it.py::test_long[2]"], {"test_long[2]"}),
        (
            ["test_it.py::test_long", "test_other.py"],
            {"test_long[1]", "test_long[2]", "test_quick_too"},
        ),
        (["-n1", "--all"], ALL),
    ],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),
)
def test_slow_tests_run_where_they_are_asked_for(run, call, expected):
    if "-n1" in call:
        pytest.importorskip("xdist")
        names, output = run(*call)
        assert "7 passed" in output
    else:
        names, output = run(*call)
        assert names == expected
    assert "were left for the long run" not in output


@pytest.mark.slow
def test_the_workers_of_xdist_count_what_they_leave_once(run):
    pytest.importorskip("xdist")
    assert LEFT in run("-n2")[1]


@pytest.mark.slow
def test_all_parts_together_are_the_slow_tests_and_no_part_has_anothers(run):
    parts = [run("-m", "slow", "--share", f"{number}/3")[0] for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(ALL & set().union(*parts))
    assert set().union(*parts) == SLOW
    assert any({"test_long[1]", "test_long[2]"} <= part for part in parts)


@pytest.mark.parametrize("text", ["0/10", "11/10", "3", "a/b", ""])
def test_a_part_that_there_is_not_is_refused(text):
    with pytest.raises(Exception, match="expected K/N with K from 1 to N"):
        selection._share(text)


def test_processor_time_is_written_by_test(run, pytester):
    _, output = run("--processor-times", "times.json")
    assert "s of processor time, by test in times.json" in output
    written = (pytester.path / "times.json").read_text()
    assert "test_it.py::test_quick" in written
