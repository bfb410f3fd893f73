"""Processes that tests look at, and calls that are refused."""

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from bench.cli.main import main


def refused(capsys, *call: str, code: int = 2) -> str:
    """The one sentence on stderr with which ``call`` is refused."""
    assert main(list(call)) == code
    said = capsys.readouterr()
    assert said.err.startswith("twingrad: ")
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    return said.err


def runs(pid: int | str) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def any_runs(pids: Iterable[int | str], seconds: float) -> bool:
    """Whether one of the processes still runs after so many seconds at most."""
    deadline = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return any(map(runs, pids))


def output(code: str) -> str:
    """What ``code`` prints in a process and a session of its own, as contestants have them."""
    call = [sys.executable, "-c", code]
    done = subprocess.run(
        call, capture_output=True, text=True, check=True, cwd=Path.cwd(), start_new_session=True
    )
    return done.stdout.strip()
