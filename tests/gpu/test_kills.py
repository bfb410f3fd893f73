"""Whatever ends a measurement leaves records that hold, and a second call completes them."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from bench.harness import frameworks
from bench.harness.records import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
    ),
]
CALL = [sys.executable, "-m", "bench.gpu", "--device", "cpu", "--preset", "tiny", "--samples", "3"]


def _start(out, *more: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*CALL, "--out", str(out), *more], cwd=ROOT, **pipes)


def _ends_with(parent: int) -> None:
    """Wait until no worker of a call is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(["pgrep", "-s", str(parent)], capture_output=True)
        if done.returncode:
            return
        time.sleep(0.2)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_call_leaves_records_that_hold(tmp_path, check, kind, seed):
    with _start(tmp_path, "train", "compare-tiny", "decode", "--budget", "30s") as call:
        time.sleep(random.Random(f"{kind} {seed}").uniform(0, 25))
        os.kill(call.pid, kind)
        said, _ = call.communicate(timeout=60)
    check(tmp_path)
    assert "Traceback" not in said
    if kind == signal.SIGTERM:
        assert call.returncode in (130, -signal.SIGTERM)  # while Python itself was still starting


def test_a_second_call_completes_what_a_killed_one_began(tmp_path, check):
    with _start(tmp_path, "train", "compare-tiny") as call:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("train-*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        call.kill()
        call.communicate(timeout=60)
    check(tmp_path)
    with _start(tmp_path, "train", "compare-tiny") as call:
        said, _ = call.communicate(timeout=600)
    assert call.returncode == 0, said
    check(tmp_path)
    assert (tmp_path / "compare-tiny-1.json").exists()


def test_a_whole_measurement_ends_within_its_budget(tmp_path, check):
    begun = time.monotonic()
    with _start(tmp_path, "--budget", "240s") as call:
        said, _ = call.communicate(timeout=300)
    assert time.monotonic() - begun < 270
    assert call.returncode in (0, 1), said
    check(tmp_path)
    assert (tmp_path / "train-1.json").exists()
