"""The peak of a process's memory is its own, whatever the one had that started it."""

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from shared import memory
from tests.helpers.sources import ROOT

MB = 2**20


def _peak_of(program: str) -> int:
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands the number on")
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it():
    child = "from shared import memory; print(memory.peak_bytes())"
    large = (
        "import subprocess, sys\n"
        f"taken = bytearray(b'1') * {400 * MB}\n"
        f"sys.stdout.write(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    assert _peak_of(child) < 100 * MB
    assert _peak_of(large) < 100 * MB


def test_what_was_taken_and_given_back_counts():
    program = (
        "from shared import memory\nbefore = memory.peak_bytes()\n"
        f"taken = bytearray(b'1') * {200 * MB}\ndel taken\nprint(memory.peak_bytes() - before)"
    )
    assert 190 * MB < _peak_of(program) < 210 * MB


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_elsewhere_the_unit_is_that_of_the_system(monkeypatch, tmp_path, platform, unit):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", platform)
    used = SimpleNamespace(ru_maxrss=3000)
    monkeypatch.setattr(resource, "getrusage", lambda who: used)
    assert memory.peak_bytes() == 3000 * unit


def test_a_system_that_does_not_say_its_peak_is_asked_otherwise(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t   10 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    assert memory.peak_bytes() > MB
