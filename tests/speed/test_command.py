"""``twingrad bench`` as it is called: what it refuses, and what Ctrl-C leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.harness import frameworks
from bench.harness.records import ROOT
from bench.speed import workloads
from bench.speed.benchmark import Bench
from tests.helpers.running import any_runs, refused

both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
OVERHEAD = ("bench", "--device", "cpu", "--workload", "overhead", "--contestants")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["--workload", "sleep"], ["'sleep'", "forward-backward"]),
        (["--workload", "train,sleep"], ["'sleep'", "train"]),
        (["--contestants", "keras"], ["'keras'", "torch-tuned"]),
        (["--contestants", "torch,keras"], ["'keras'"]),
        (["--contestants", ","], ["','", "A,B"]),
        (["--contestants", ""], ["''", "A,B"]),
        (["--preset", "125m"], ["'125m'", "124m"]),
        (["--dtype", "float16"], ["'float16'", "bfloat16"]),
        (["--device", "tpu"], ["'tpu'", "cuda"]),
        (["--peer", "nanogpt"], ["'nanogpt'", "NAME=PATH"]),
        (["--peer", "nanogpt="], ["NAME=PATH"]),
        (["--peer", "nanogpt=/nowhere/at/all"], ["nanogpt", "/nowhere/at/all", "does not exist"]),
        (["--peer", "nanogpt=/"], ["nanogpt", "model.py"]),
        (["--peer", "llama=/"], ["'llama'", "nanogpt", "Racer", "Backend"]),
        (["--peer", "torch-tuned={peer}"], ["torch-tuned"]),
        (["--peer", "jax={peer}"], ["jax"]),
        (["--peer", "a/b={peer}"], ["'a/b'"]),
        (["--budget", "soon"], ["'soon'", "9m"]),
        (["--budget", "0s"], ["'0s'"]),
        (["--budget", "-3m"], ["--budget"]),
        (["--samples", "0"], ["--samples", "1 or more"]),
        (["--starts", "0"], ["--starts", "1 or more"]),
        (["--starts", "2"], ["--starts", "2", "3 and more"]),
        (["--workload", "growth", "--contestants", "hf"], ["hf", "growth", "--workload"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--length", "0"], ["--length"]),
        (["--preset", "tiny", "--length", "129"], ["129", "128", "tiny"]),
        (["--json", "/nowhere/at/all/x.json"], ["/nowhere/at/all", "create"]),
        (["--json", "{tmp}"], ["folder"]),
    ],
    ids=lambda value: " ".join(value),
)
@both
def test_a_wrong_call_is_refused_in_one_sentence(capsys, monkeypatch, tmp_path, call, named):
    monkeypatch.setattr(Bench, "measure", lambda self: pytest.fail("it was not refused"))
    peer = tmp_path / "mine.py"
    peer.write_text("class Racer: ...\n")
    given = [word.format(peer=peer, tmp=tmp_path) for word in call]
    out = tmp_path / "record.json"
    extra = [] if "--json" in call else ["--json", str(out)]
    device = [] if "--device" in call else ["--device", "cpu"]
    said = refused(capsys, "bench", *given, *extra, *device)
    for word in named:
        assert word in said
    assert os.listdir(tmp_path) == ["mine.py"]


def test_a_folder_that_cannot_be_written_to_is_refused(capsys, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    said = refused(capsys, "bench", "--device", "cpu", "--json", str(tmp_path / "x.json"))
    assert "no permission" in said


@both
def test_cuda_asked_for_and_absent_is_refused(capsys, monkeypatch, tmp_path):
    there = "there is a CUDA device here"
    monkeypatch.setattr(Bench, "measure", lambda self: pytest.skip(there))
    out = tmp_path / "record.json"
    assert "cuda" in refused(capsys, "bench", "--device", "cuda", "--json", str(out))
    assert not out.exists()


def test_a_missing_framework_is_named_with_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(frameworks, "installed", lambda name: name != "jax")
    said = refused(capsys, "bench", "--device", "cpu", "--contestants", "jax")
    assert "jax is not installed: pip install -e '.[jax,bench]'" in said


def _workers(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[1] == str(parent) and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(tmp_path, capsys):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    path = tmp_path / "record.json"
    call = [*OVERHEAD, "jax-tuned", "--samples", "1", "--starts", "1", "--json", str(path)]
    # What a shell starts in the background ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = subprocess.Popen(
        [sys.executable, "-m", "bench", *call],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    with started as bench:
        deadline = time.monotonic() + 60
        # The first stage is written down, and the second is under way.
        while not (path.exists() and (workers := _workers(bench.pid))):
            assert bench.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        bench.send_signal(signal.SIGINT)
        said, errors = bench.communicate(timeout=30)
    assert bench.returncode == 130
    assert "Traceback" not in errors
    assert "what was measured until then is kept" in said
    # One that was being started then finds its pipe closed, and ends.
    assert not any_runs(workers, 30)
    found = json.loads(path.read_text())
    assert found["interrupted"] is True
    assert [row["preset"] for row in found["results"]] == [workloads.SMALL_PROGRAMS[0]]
    assert found["results"][0]["status"] == "timed"
    assert main(["bench", "--check", str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path]


@both
def test_a_budget_too_small_for_anything_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Bench, "elapsed", lambda self: 5.0)
    path = tmp_path / "record.json"
    call = [*OVERHEAD, "jax-tuned", "--budget", "5s", "--json", str(path)]
    assert main(call) == 1
    found = json.loads(path.read_text())
    assert found["results"] == []
    assert [one["stage"] for one in found["skipped"]] == list(workloads.SMALL_PROGRAMS)
    assert '"ok": false' in capsys.readouterr().out
