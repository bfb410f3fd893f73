"""Runs of ``twingrad train`` for tests: in this process or in others, and their results."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.training import metrics
from shared import checkpoint
from tests.helpers.commands import without_stages

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()
# The smallest model, which drops units.
TINY = ["--preset", "tiny"]
# Small enough for a process a second: sixteen tokens at a time, two at once.
SMALL = [*TINY, "--length", "16", "--batch-size", "2"]
SMALL += ["--eval-batches", "1", "--eval-every", "1000"]
# Small, and divisible among processes.
DIVISIBLE = [*TINY, "--length", "16", "--batch-size", "4"]
DIVISIBLE += ["--eval-batches", "2", "--eval-every", "1000"]
DIVISIBLE += ["--dtype", "float64", "--device", "cpu", "--micro-batches", "2"]
minutes = pytest.mark.skipif(
    "TWINGRAD_KILLS" not in os.environ,
    reason="takes minutes with many processes: set TWINGRAD_KILLS to a number, as 20",
)


def train(*arguments: object) -> int:
    """The exit status of ``twingrad train`` in this process."""
    return main.main(["train", *map(str, arguments)])


def refused(capsys, *arguments: object) -> str:
    """The one sentence with which a call is refused."""
    capsys.readouterr()
    assert train(*arguments) == 2
    complaint = without_stages(capsys.readouterr().err)
    assert complaint.startswith("twingrad: ")
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint
    return complaint


def rows_of(out: Path, name: str) -> list[dict]:
    """The lines of one framework's metrics."""
    lines = (out / name / metrics.FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def state(out: Path, name: str, step: int) -> checkpoint.Checkpoint:
    """The checkpoint of ``step``."""
    return checkpoint.load(out / name / "checkpoints" / f"step-{step:06d}")


def assert_whole(out: Path, name: str) -> int:
    """Every checkpoint there is can be read; the newest one's step."""
    steps = checkpoint.steps(out / name / "checkpoints")
    assert steps, "no checkpoint is there"
    for step in steps:
        assert state(out, name, step).step == step
    return steps[-1]


def assert_same_run(left: Path, right: Path, name: str, steps: int, relative: float = 0) -> None:
    """Two runs of one framework came to the same numbers: bit for bit, or within ``relative``."""
    one, other = rows_of(left, name), rows_of(right, name)
    assert [row["step"] for row in one] == [row["step"] for row in other] == [*range(1, steps + 1)]
    for mine, yours in zip(one, other, strict=True):
        for key in {"loss", "grad_norm", "lr", "val_loss"} & mine.keys() & yours.keys():
            assert mine[key] == pytest.approx(yours[key], rel=relative, abs=0), mine["step"]
    first, second = (state(out, name, steps) for out in (left, right))
    for part in ("params", "first_moment", "second_moment"):
        for key, value in getattr(first, part).items():
            apart = np.abs(value - getattr(second, part)[key]).max()
            assert apart <= relative * np.abs(value).max(), f"{part} {key}"
    assert first.data == second.data


class Run:
    """``twingrad train`` in processes of its own, none of which outlives it."""

    def __init__(self, *arguments: object, before: Sequence[str] = (), **environment: str) -> None:
        command = [sys.executable, "-m", "bench", "train", *map(str, arguments)]
        self.process = subprocess.Popen(
            [*before, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [*_descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.communicate()

    def rank(self, rank: int) -> int:
        """The process of ``rank``, once it is there."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            for pid in _descendants(self.process.pid):
                if f"RANK={rank}" in environment(pid):
                    return pid
            time.sleep(0.01)
        raise AssertionError(f"there is no rank {rank}")

    def wait_for_steps(self, path: Path, more: int) -> None:
        """Until so many ``more`` steps are in the metrics at ``path`` than now."""
        wanted = _lines(path) + more
        deadline = time.monotonic() + 120
        while _lines(path) < wanted:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.002)

    def ends(self, status: int, within: float = 300) -> str:
        """Its output, once it has ended with ``status``, in so many seconds."""
        output = self.process.communicate(timeout=within)[0]
        assert self.process.returncode == status, output
        assert "Traceback" not in output, output
        return output


def _descendants(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [
            int(child) for task in tasks for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid for child in children for pid in (child, *_descendants(child))]


def environment(pid: int) -> list[str]:
    """The environment of a process, as ``NAME=value``; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
