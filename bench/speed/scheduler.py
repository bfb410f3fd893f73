"""The race itself: a process for each contestant, made ready in turn, then timed round by round.

Nothing here knows what is timed. Contestants of a heat are asked one after the other for one sample
each, round after round, so that a slow minute slows all of them; a sample during which something
else kept the machine busy is taken again.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.harness.records import ROOT
from bench.speed.contestants import CLEARED, Contestant

# Cores that others may keep busy during a sample that counts.
QUIET = 0.10
# Rounds that are run however little time is left: one sample has no spread.
LEAST = 5
# How many samples are taken at most for each that is wanted.
RETAKES = 3
# A sample is made of as many steps as take this long: the kernel counts in hundredths of a second,
# of which two must be less than what others may keep busy.
SAMPLE_S = 0.25
WAIT_S = {"start": 180.0, "work": 600.0}


class Failed(Exception):
    """What became of a contestant instead of an answer."""


class Process:
    """A contestant's process, and the wire to it."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path):
        self.name, self.folder = name, folder
        ours, theirs = socket.socketpair()
        self.errors = folder / f"{name}.stderr"
        with theirs, self.errors.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "bench.speed.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=dict(environment),
                cwd=ROOT,
                # Its own group, so that Ctrl-C is ours to handle and all it starts can be ended.
                start_new_session=True,
            )
        self.pipe = Connection(ours.detach())

    def ask(self, do: str, wait_s: float, **asked: Any) -> dict[str, Any]:
        """Its answer. Raises ``Failed`` where it dies, fails or takes longer than ``wait_s``."""
        self.send(do, **asked)
        return self.answer(do, wait_s)

    def send(self, do: str, **asked: Any) -> None:
        """Ask, and do not wait: ``answer`` does, or says that it has died.

        What is asked must be small, or this waits until the process has started to read.
        """
        with suppress(OSError):
            self.pipe.send({"do": do, **asked})

    def answer(self, do: str, wait_s: float) -> dict[str, Any]:
        """What it answers to ``do``, which was sent; raises as ``ask`` does."""
        try:
            if not self.pipe.poll(wait_s):
                self.end()
                raise Failed(f"hung: no answer to {do!r} in {wait_s:.0f} s")
            answer = self.pipe.recv()
        except (EOFError, OSError):
            raise Failed(self._death()) from None
        if "error" in answer:
            raise Failed(answer["error"])
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
        return f"died with status {code}: {lines[-1] if lines else 'it said nothing'}"[:300]


def environment(contestant: Contestant, folder: Path) -> dict[str, str]:
    """A contestant's environment: the caller's, without our settings, and with its own.

    Each has compilation caches of its own, empty at first, so that what compiling costs is seen.
    """
    found = {name: value for name, value in os.environ.items() if name not in CLEARED}
    caches = folder / f"{contestant.name.replace(' ', '-')}.cache"  # told to C++ compilers as it is
    found |= {
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "xla"),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    return found | contestant.environment()


@dataclass(frozen=True)
class Sample:
    """Seconds a step, and how many cores others kept busy; ``start`` says in which process."""

    start: int
    round: int
    seconds: float
    others_cores: float


@dataclass(kw_only=True)
class Entry:
    """A contestant in a heat: its process, and what was found so far."""

    contestant: Contestant
    label: str
    process: Process | None = None
    failed: str | None = None
    made: bool = False
    ready: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether it was made, and its process can still be asked."""
        return self.made and self.process is not None and self.process.child.poll() is None

    @property
    def racing(self) -> bool:
        """Whether it is still to be timed."""
        return self.failed is None and self.process is not None

    def clean(self) -> list[float]:
        """Seconds of the samples that nothing disturbed."""
        return [s.seconds for s in self.samples if s.others_cores <= QUIET]

    def add(self, other: "Entry") -> None:
        """Take over what was found in a further process of the same contestant.

        What its first step took and its memory stay those of the first process, whose caches were
        empty; of the certificates the worst is kept.
        """
        self.failed = self.failed or other.failed
        self.state = self.state or other.state
        self.samples += other.samples
        if not self.ready:
            self.ready = other.ready
        elif other.ready and _strain(other.ready["parity"]) > _strain(self.ready["parity"]):
            self.ready = self.ready | {"parity": other.ready["parity"]}

    def ask(self, do: str, wait_s: float, **asked: Any) -> dict[str, Any]:
        """Its answer; where there is none, what became of it is noted and ``Failed`` raised."""
        return self._noted(lambda process: process.ask(do, wait_s, **asked))

    def answer(self, do: str, wait_s: float) -> dict[str, Any]:
        """What it answers to ``do``, which was sent; the same where there is none."""
        return self._noted(lambda process: process.answer(do, wait_s))

    def _noted(self, call: Callable[[Process], dict[str, Any]]) -> dict[str, Any]:
        assert self.process is not None
        try:
            return call(self.process)
        except Failed as failure:
            # Where a checkout lay is nobody's business.
            place = self.contestant.path and os.path.dirname(self.contestant.path)
            self.failed = str(failure).replace(place, "...") if place else str(failure)
            raise


def _strain(parity: dict[str, Any]) -> float:
    """How much of its limit a certificate's worst error takes; infinite where it failed."""
    return parity["error_u"] / max(parity["limit_u"], 1e-9) if parity["ok"] else math.inf


@contextmanager
def stable(entries: Sequence[Entry] = ()) -> Iterator[Path]:
    """A folder for the heat's files; the processes of ``entries`` are ended when it is over."""
    with tempfile.TemporaryDirectory(prefix="twingrad-bench-") as name, ending(entries):
        yield Path(name)


@contextmanager
def ending(entries: Sequence[Entry]) -> Iterator[None]:
    """However this ends, no process of ``entries`` is left."""
    try:
        yield
    finally:
        for entry in entries:
            if entry.process is not None:
                entry.process.end()


def rounds(
    entries: list[Entry],
    asked: dict[str, Any],
    *,
    wanted: int,
    until: float,
    start: int = 0,
    least: int = LEAST,
    tell: Callable[[str], None],
    check: Callable[[], dict[str, Any]] = dict,
) -> list[dict[str, Any]]:
    """Take samples of all that race, round by round, until each has ``wanted`` clean ones.

    Ends earlier at ``until`` (``time.monotonic``), but not before ``least`` rounds. Returns what
    ``check`` saw before each round: clocks and temperature.
    """
    seen = []
    for turn in range(wanted * RETAKES):
        waiting = [e for e in entries if e.racing and len(e.clean()) < wanted]
        if not waiting or (turn >= least and time.monotonic() > until):
            break
        seen.append(check())
        # Every contestant runs in every round, or rounds would not be comparable.
        for entry in (e for e in entries if e.racing):
            tell(f"round {turn + 1}, {entry.label}")
            steps = max(1, round(SAMPLE_S / max(entry.ready["step_s"], 1e-6)))
            try:
                answer = entry.ask("time", WAIT_S["work"], steps=steps, **asked)
            except Failed:
                continue
            entry.samples.append(Sample(start, turn, answer["seconds"], answer["others"]))
    return seen
