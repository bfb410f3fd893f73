"""Under coverage, a process that is to be killed may first write down what it has reached.

This holds for helpers that the code kills: a group of processes, and one of multiprocessing's. What
a test kills by its number is killed at once.
"""

import contextlib
import os
import signal
import time
from multiprocessing.process import BaseProcess
from types import FrameType

import coverage

PATIENCE = 2.0  # seconds
_ASKED = signal.SIGUSR1  # a process of another language ends at it


def install() -> None:
    """Have this process save when it is asked, and ask those that it kills before it does."""
    signal.signal(_ASKED, _save_and_end)
    kill_group, kill_one = os.killpg, BaseProcess.kill

    def killpg(group: int, number: int) -> None:
        if number == signal.SIGKILL:
            kill_group(group, _ASKED)
            _wait(group)
        kill_group(group, number)

    def kill(self: BaseProcess) -> None:
        if self.pid is not None and self.is_alive():
            os.kill(self.pid, _ASKED)
            _wait(self.pid)
        kill_one(self)

    os.killpg, BaseProcess.kill = killpg, kill


def _save_and_end(number: int, frame: FrameType | None) -> None:
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.save()
    os.kill(os.getpid(), signal.SIGKILL)  # the status that its parent expects


def _wait(child: int) -> None:
    """Wait until a child has ended, and leave its status to the caller."""
    end = time.monotonic() + PATIENCE
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end and os.waitid(os.P_PID, child, look) is None:
            time.sleep(0.01)
