"""Attacks are counted by group: those that were tried, and those that were withstood."""

import json

import pytest

from bench.harness import frameworks
from bench.harness.records import Record
from bench.studies import attacking
from tests.helpers.sources import ROOT

CONFTEST = """
from tests.helpers import attacks

def pytest_addoption(pluginmanager):
    pluginmanager.register(attacks)
"""
FILE = """
import pytest

@pytest.mark.attack("data")
@pytest.mark.parametrize("case", [1, 2])
def test_withstood(case):
    pass

@pytest.mark.attack("network")
def test_many(record_property):
    record_property("attacks", 1000)

@pytest.mark.attack("network")
def test_not_withstood(record_property):
    record_property("attacks", 7)
    assert False

@pytest.fixture
def broken():
    raise ValueError

@pytest.mark.attack("records")
def test_not_even_begun(broken):
    pass

@pytest.mark.attack("processes")
def test_left_out():
    pytest.skip("no such thing here")

def test_of_something_else():
    pass
"""
COUNTED = {
    "data": {"tests": 2, "tried": 2, "withstood": 2, "skipped": 0},
    "processes": {"tests": 0, "tried": 0, "withstood": 0, "skipped": 1},
    "network": {"tests": 2, "tried": 1007, "withstood": 1000, "skipped": 0},
    "sentences": {"tests": 0, "tried": 0, "withstood": 0, "skipped": 0},
    "records": {"tests": 1, "tried": 1, "withstood": 0, "skipped": 0},
}


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a record names both frameworks"
)
@pytest.mark.parametrize("workers", [["-p", "no:xdist"], ["-n", "2"]], ids=["alone", "workers"])
def test_attacks_are_counted_by_group(pytester, monkeypatch, workers):
    if workers[0] == "-n":
        pytest.importorskip("xdist")
    path = pytester.path / "record.json"
    monkeypatch.setenv("TWINGRAD_ATTACKS_RECORD", str(path))
    monkeypatch.delenv("TWINGRAD_KILLS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  attack: on a group\n")
    pytester.makepyfile(test_it=FILE)
    assert pytester.runpytest_subprocess("-p", "no:cacheprovider", *workers).ret == 1
    record = Record.of(json.loads(path.read_text()), "record")
    assert (record["groups"], record["kills"]) == (COUNTED, 0)
    text = attacking.markdown(record)
    assert "| strangers at the ports of a run | 2 | 1,007 | 1,000 |" in text
    assert "1,010 in all, 8 of them not withstood" in text
    assert "1 test was skipped" in text


@pytest.mark.slow
def test_a_group_that_there_is_not_is_refused(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  attack: on a group\n")
    pytester.makepyfile(test_it='import pytest\n@pytest.mark.attack("x")\ndef test_x(): pass')
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    assert "an attack on 'x', which is no group" in done.stderr.str() + done.stdout.str()
