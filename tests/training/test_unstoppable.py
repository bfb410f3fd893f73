"""Output that cannot be written stops no training."""

import errno
import io
import os
import shlex
import subprocess
import sys

import pytest

from bench.training.unstoppable import UnstoppableStream, output_stops_nothing
from shared import checkpoint
from tests.helpers.runs import ROOT, SMALL, rows_of, train

pytestmark = pytest.mark.attack("data")


class _Full(io.StringIO):
    """A stream on a disk that is full after the first write."""

    error = OSError(errno.ENOSPC, "No space left on device")
    written = 0

    def write(self, text: str) -> int:
        self.written += 1
        if self.written > 1:
            raise self.error
        return super().write(text)


def test_what_cannot_be_printed_is_dropped_and_said_once(capsys):
    stream = UnstoppableStream(_Full())
    for word in ("first", "second", "third"):
        assert stream.write(word) == len(word)
        stream.flush()
    said = capsys.readouterr().err
    assert said == (
        "twingrad: nothing more can be printed (No space left on device); the training goes on\n"
    )


def test_a_reader_that_has_gone_is_not_mentioned(capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = UnstoppableStream(pipe)
        stream.write("text")
        stream.flush()
        stream.write("more")
    assert capsys.readouterr().err == ""


def test_the_streams_are_put_back(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # closed by the caller
    before = sys.stdout
    with output_stops_nothing():
        assert sys.stdout is not before
        print("text", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == (before, None)


@pytest.mark.slow("jax")
def test_a_training_whose_output_fails_comes_to_its_end(framework, text, tmp_path, monkeypatch):
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 3)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", _Full())
        assert train(*asked, "--out", tmp_path) == 0
    assert checkpoint.steps(tmp_path / framework.name / "checkpoints")[-1] == 3
    assert len(rows_of(tmp_path, framework.name)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("output", ["| head -1", "> /dev/full", ">&- 2>&-"])
def test_a_training_outlives_its_reader_its_disk_and_its_terminal(one, text, tmp_path, output):
    asked = [*SMALL, "--framework", one, "--data", text, "--steps", 30, "--out", tmp_path / "run"]
    words = shlex.join([sys.executable, "-m", "bench", "train", *map(str, asked)])
    command = ["bash", "-c", f"set -o pipefail; {words} {output}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert len(rows_of(tmp_path / "run", one)) == 30
