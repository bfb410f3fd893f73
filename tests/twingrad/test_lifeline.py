"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.sources import ROOT
from twingrad import lifeline

pytestmark = pytest.mark.attack("processes")

# Starts a child in some way, prints its id once it watches, and waits.
PARENT = """
import multiprocessing, os, subprocess, sys, threading, time
from twingrad import lifeline

def child():
    lifeline.end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(600)

def started_by_a_thread_that_has_ended():
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    how = sys.argv[1]
    if how == "spawned":
        process.start()
    elif how == "by a thread":
        started_by_a_thread_that_has_ended()
    else:
        code = "import os; from twingrad import lifeline; "
        code += "lifeline.end_with_parent_if_told(os.environ); "
        code += "assert lifeline.VARIABLE not in os.environ; "
        code += "import time; print(os.getpid(), flush=True); time.sleep(600)"
        told = {**os.environ, lifeline.VARIABLE: "yes"}
        subprocess.Popen([sys.executable, "-c", code], env=told)
    time.sleep(600)
"""


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while _is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _is_there(pid)


@pytest.mark.slow("spawned", "by a thread")
@pytest.mark.parametrize("how", ["told", "spawned", "by a thread"])
def test_a_child_ends_when_its_parent_is_killed(tmp_path, how):
    (tmp_path / "parent.py").write_text(PARENT)
    words = [sys.executable, str(tmp_path / "parent.py"), how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        assert _is_there(child)
        parent.kill()
        parent.wait()
        assert _ends(child)


def test_a_process_that_nobody_told_goes_on():
    environment: dict[str, str] = {}
    lifeline.end_with_parent_if_told(environment)
    assert environment == {}
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
