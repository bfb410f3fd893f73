"""A contestant's process: start it, send it requests, and end it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from bench.harness.records import ROOT
from bench.speed.contestants import CLEARED, Contestant
from bench.speed.messages import Answer, Request, WorkerError

# Seconds that a process may take to start, and to answer a request.
START_S, WORK_S = 180.0, 600.0


class Failed(Exception):
    """A contestant's process that failed instead of answering, with the reason."""


class BudgetSpent(Exception):
    """The end of the time that a call may take; the process that was being waited for is ended."""


class WorkerProcess:
    """A contestant's process, and the socket to it."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path):
        here, there = socket.socketpair()
        self.errors = folder / f"{name}.stderr"
        with there, self.errors.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "bench.speed.worker", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=dict(environment),
                cwd=ROOT,
                # Its own group: Ctrl-C is for this process to handle, and all of it can be ended.
                start_new_session=True,
            )
        self.pipe = Connection(here.detach())

    def ask(self, request: Request[Answer], wait_s: float) -> Answer:
        """The answer. Raises ``Failed`` where it dies, fails or takes longer than ``wait_s``."""
        self.send(request)
        return self.answer(request, wait_s)

    def send(self, request: Request[Answer]) -> None:
        """Send a request without waiting; where the process has died, ``answer`` says so.

        The request must be small, or this waits until the process has started to read.
        """
        with suppress(OSError):
            self.pipe.send(request)

    def answer(self, request: Request[Answer], wait_s: float) -> Answer:
        """The answer to a request that was sent; raises as ``ask`` does."""
        try:
            if not self.pipe.poll(wait_s):
                self.end()
                raise Failed(f"hung: no answer to {request.name!r} in {wait_s:.0f} s")
            answer: Answer | WorkerError = self.pipe.recv()
        except (EOFError, OSError):
            raise Failed(self._death()) from None
        if isinstance(answer, WorkerError):
            raise Failed(answer.message)
        return answer

    def end(self) -> None:
        """End it and whatever it started."""
        self.pipe.close()
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def _death(self) -> str:
        try:
            code = self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.end()
            return "stopped answering"
        if code == -signal.SIGKILL:
            return "killed, as the kernel does when memory runs out"
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return f"died with status {code}: {lines[-1] if lines else 'no output'}"[:300]


def environment(contestant: Contestant, folder: Path) -> dict[str, str]:
    """A contestant's environment: the caller's, without our settings, and with its own.

    Each has compilation caches of its own, empty at first, so that what compiling costs is seen.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in CLEARED}
    caches = folder / f"{file_name(contestant)}.cache"  # C++ compilers get it without quotes
    return {
        **inherited,
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "xla"),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        **contestant.environment(),
    }


def file_name(contestant: Contestant) -> str:
    """The contestant's name without spaces."""
    return contestant.name.replace(" ", "-")


def start(contestant: Contestant, folder: Path, caches: Path | None = None) -> WorkerProcess:
    """Start a contestant's process, with files in ``folder``.

    With a folder of ``caches``, compiled programs are stored there and found by the next process.
    """
    variables = environment(contestant, caches or folder)
    if caches is not None:
        variables |= {
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    return WorkerProcess(file_name(contestant), variables, folder)
