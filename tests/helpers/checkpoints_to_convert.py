"""Calls of ``twingrad convert`` on the pair files of these tests, and what they printed."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from twingrad.cli.main import main

PORTS = Path(__file__).parents[1] / "convert" / "ports"


@dataclass(frozen=True)
class Done:
    """One call: its exit status, and both streams with lines joined."""

    status: int
    out: str
    err: str


def convert(port: str, weights: Path, to: str, out: Path, *options: str, check: bool = False):
    """Convert ``weights`` by the pair file ``port``; both models are compared with ``check``."""
    words = ["convert", str(PORTS / f"{port}.py"), "--weights", str(weights), "--to", to]
    words += ["--out", str(out), *options, *([] if check else ["--no-check"])]
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main(words)
    return Done(status, *(" ".join(stream.getvalue().split()) for stream in streams))


def same_files(first: Path, second: Path) -> bool:
    """Whether two files have the same bytes."""
    return first.read_bytes() == second.read_bytes()
