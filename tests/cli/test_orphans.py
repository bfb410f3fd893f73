"""A command that is ended leaves no process and no temporary folder, however it was ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.harness import frameworks
from tests.helpers.sources import ROOT

pytestmark = [
    pytest.mark.attack("processes"),
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
    ),
]
CALLS = {
    "compare": ["compare", "--dtype", "float64"],
    "bench": ["bench", "--workload", "overhead", "--starts", "3"],
    "plan": ["plan", "--measure", "--preset", "tiny"],
    "diagnose": ["diagnose", "gpt2"],
}
# How many processes each has, and with that the moment at which it is in the middle of its work.
WITHIN = {"compare": 2, "bench": 2, "plan": 2, "diagnose": 1}


def _of_session(session: int) -> list[int]:
    """The processes that a command has started, whatever group or session they are in now."""
    found, parents = [], {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, its = (place / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        parents[int(place.name)] = int(parent)
        if int(its) == session and state != "Z":
            found.append(int(place.name))
    changed = True
    while changed:
        more = [pid for pid, parent in parents.items() if parent in found and pid not in found]
        found, changed = found + more, bool(more)
    return found


@contextmanager
def _heard(number: int) -> Iterator[None]:
    """Within, a process is started that hears the signal, though nohup may have started us."""
    if number == signal.SIGKILL:
        yield
        return
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGTERM, "it"),
        (signal.SIGHUP, "it"),
        (signal.SIGINT, "it"),
        (signal.SIGINT, "its group"),  # as a terminal sends Ctrl-C
        (signal.SIGKILL, "it"),
    ],
)
@pytest.mark.parametrize("command", CALLS)
def test_no_process_and_no_folder_outlives_a_command(tmp_path, command, number, whom):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "bench", *CALLS[command]]
    with _heard(number):
        started_process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with started_process as process:
        started: set[int] = set()
        deadline = time.monotonic() + 120
        while (
            len(started) < WITHIN[command]
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            started = set(_of_session(process.pid))
            time.sleep(0.1)
        time.sleep(2)
        started |= set(_of_session(process.pid))
        if whom == "it":
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        printed, said = process.communicate(timeout=60)
    assert len(started) >= WITHIN[command]
    assert "Traceback" not in said
    killed = number == signal.SIGKILL  # compare takes a termination for Ctrl-C
    # What a benchmark keeps it says where its tables are, unless nothing has begun.
    assert said.count("twingrad: ") + printed.count("Interrupted: ") == (not killed), said
    assert process.returncode in ((-9,) if killed else (128 + number, 130)), said
    deadline = time.monotonic() + 30
    while (left := [pid for pid in started if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    if number != signal.SIGKILL:  # of which the next command removes what is left
        assert [path.name for path in tmp_path.iterdir() if "twingrad" in path.name] == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
