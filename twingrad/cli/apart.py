"""Run a command in a process of its own, whose end cannot be taken for a verdict.

A pair's code runs with all rights, and may end the process that it runs in, with any status and at
any time. So the command's status is what it says over a pipe once it has come to its end, and
nothing else. The process that waits for it passes signals on, and ends it if they are not heeded.
"""

import os
import signal
import time
from collections.abc import Callable
from io import RawIOBase

from twingrad.cli.ending import STOPPING, WRONG, say, stopped
from twingrad.cli.options import HelpPrinted
from twingrad.lifeline import end_with_parent_at_once

# Seconds that the command has to end after a signal, and its process after it has said its status.
GRACE_S = 5.0
# Seconds between two looks at whether it has said its status.
_LOOK_S = 1.0


def run(command: Callable[[], int]) -> int:
    """The status of ``command``, run in a fork of this process; 2 if it was ended before.

    In the fork this returns as well. Call it before anything starts threads. Where the system has
    no forks, ``command`` runs here.
    """
    if not (hasattr(os, "fork") and hasattr(signal, "sigtimedwait")):
        return command()
    heeded = {number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nothing could be waited for
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heeded | {signal.SIGCHLD})
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        end_with_parent_at_once(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            status = command()
        except HelpPrinted:
            status = 0
        os.write(writing, bytes([status]))
        return status
    os.close(writing)
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        ended = _Waiting(child, pipe, heeded).wait()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ended


class _Waiting:
    """Waiting for the process ``child``: what it has said, and which signal came first."""

    def __init__(self, child: int, pipe: RawIOBase, heeded: set[signal.Signals]):
        self.child, self.pipe, self.heeded = child, pipe, heeded
        self.said: int | None = None
        self.came, self.deadline = 0, float("inf")

    def wait(self) -> int:
        """Wait until it has ended, and return the status of the command."""
        while True:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            self._listen()
            if ended:
                return self._status(os.waitstatus_to_exitcode(status))
            left = min(max(self.deadline - time.monotonic(), 0.0), _LOOK_S)
            info = signal.sigtimedwait(self.heeded | {signal.SIGCHLD}, left)
            if info is not None and info.si_signo != signal.SIGCHLD:
                self._pass_on(info)
            if time.monotonic() >= self.deadline:
                os.kill(self.child, signal.SIGKILL)

    def _listen(self) -> None:
        """Take note of the command's status once it is there; its process ends soon then."""
        content = self.pipe.read(1) if self.said is None else None
        if content:
            self.said = content[0]
            self._end_soon()

    def _pass_on(self, info: signal.struct_siginfo) -> None:
        self.came = self.came or info.si_signo
        self._end_soon()
        # A terminal sends Ctrl-C to both; whatever somebody else sends is for this one alone.
        if info.si_signo != signal.SIGINT or info.si_code <= 0:
            os.kill(self.child, info.si_signo)

    def _end_soon(self) -> None:
        self.deadline = min(self.deadline, time.monotonic() + GRACE_S)

    def _status(self, code: int) -> int:
        if self.said is not None:
            return self.said
        return stopped(self.came) if self.came else _without_a_verdict(code)


def _without_a_verdict(code: int) -> int:
    """Say how the process ended before the command had a status."""
    if code >= 0:
        say(
            f"twingrad: the pair's code ended the process that it ran in, with status {code}, "
            "before there was a verdict: take out what ends it, such as os._exit"
        )
    elif -code == signal.SIGKILL:
        say(
            "twingrad: the process that ran the pair was killed, as the system does when memory "
            "runs out: free some, or take a smaller batch"
        )
    else:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        say(
            f"twingrad: the process that ran the pair was ended by {name} before there was a "
            "verdict: run the model by itself, with python -X faulthandler, to see where"
        )
    return WRONG
