"""A command in a process of its own: its end is no verdict, and it ends with its caller."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.sources import ROOT

# Runs COMMAND apart, as the front door runs one that runs a pair's code.
PROGRAM = """
import atexit, os, signal, sys, time
from twingrad.cli import apart
from twingrad.cli.ending import exit_status
apart.GRACE_S = 0.5
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
signal.signal(signal.SIGINT, signal.default_int_handler)

def late():
    atexit.register(lambda: os._exit(0))
    return 1

def stubborn():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return waiting()

def waiting():
    print(os.getpid(), flush=True)
    time.sleep(600)
    return 0

sys.exit(apart.run(lambda: exit_status(lambda: {})))
"""


def _start(command: str) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(command)], cwd=ROOT, **pipes)


def _run(command: str) -> tuple[int, str]:
    with _start(command) as process:
        said = process.communicate(timeout=60)[1]
    return process.returncode, said


def _ends(pid: int) -> bool:
    """Whether the process ends within seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow("0*", "os._exit(1)*", "os.abort*", "os.kill*", "sys.exit*")
@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("0", 0, ""),
        ("1", 1, ""),
        ("late()", 1, ""),
        ("os._exit(0)", 2, "with status 0, before there was a verdict"),
        ("os._exit(1)", 2, "with status 1, before there was a verdict"),
        ("sys.exit(0)", 2, "SystemExit: 0"),
        ("os.execv('/bin/true', ['true'])", 2, "before there was a verdict"),
        ("os.abort()", 2, "ended by SIGABRT"),
        ("os.kill(os.getpid(), 9)", 2, "memory"),
    ],
)
@pytest.mark.attack("data")
def test_only_what_a_command_says_is_its_status(command, status, words):
    code, said = _run(command)
    assert (code, "Traceback" in said) == (status, False)
    assert words in said
    assert said.count("\n") == bool(words)


@pytest.mark.slow("*waiting*", "2-*", "1-*")
@pytest.mark.parametrize("command", ["waiting()", "stubborn()"])
@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
@pytest.mark.attack("processes")
def test_a_signal_ends_both_processes_and_is_said_once(command, number, word):
    with _start(command) as process:
        child = int(process.stdout.readline())
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (128 + number, f"twingrad: {word}\n")
    assert _ends(child)


@pytest.mark.slow
@pytest.mark.attack("processes")
def test_ctrl_c_for_both_processes_is_said_once():
    with _start("waiting()") as process:
        child = int(process.stdout.readline())
        for pid in (process.pid, child):  # as a terminal does, which says that it is the terminal
            os.kill(pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, "twingrad: interrupted\n")


@pytest.mark.attack("processes")
def test_a_killed_caller_takes_the_command_with_it():
    with _start("stubborn()") as process:
        child = int(process.stdout.readline())
        process.kill()
    assert _ends(child)


@pytest.mark.slow("diagnose", "bench")
@pytest.mark.parametrize("command", ["compare", "diagnose", "bench"])
@pytest.mark.attack("data")
def test_a_pair_that_exits_is_not_equal(tmp_path, command):
    (tmp_path / "pair.py").write_text("import os\nos._exit(0)\n")
    words = [sys.executable, "-m", "twingrad", command, "pair.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "the pair's code ended the process" in done.stderr
