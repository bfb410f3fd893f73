"""A training that dies at any file operation, or at any moment, leaves a folder that goes on."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from bench.harness.frameworks import installed
from bench.training import metrics, run_lock
from tests.helpers.runs import ROOT, SMALL, Run, assert_same_run

pytestmark = pytest.mark.attack("data")

# How often a run is ended by each signal; 10 is what the project claims.
KILLS = int(os.environ.get("TWINGRAD_KILLS", "1"))
STEPS = 60

# Trains three steps with a checkpoint after each, and dies before the n-th thing that it does to a
# file of its run, for every n; then goes on to the end. Forks, so that PyTorch starts once.
DIES_EVERYWHERE = """
import json, os, sys
from pathlib import Path
import torch
from bench.cli.main import main
from bench.training import run_folder

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"}
text, place, *words = sys.argv[1:]
asked = ["train", *words, "--framework", "torch", "--data", text, "--steps", "3", "--seed", "5"]
asked += ["--checkpoint-every", "1", "--keep", "1"]

def die_before(n, out):
    left = iter(range(n - 1))
    def hook(event, arguments):
        if event in TOUCHES and str(out) in str(arguments[0]) and next(left, None) is None:
            os._exit(9)
    sys.addaudithook(hook)

def forked(call):
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(call())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def state(out):
    (path,) = (out / "torch" / "checkpoints").iterdir()
    return (path / "params.safetensors").read_bytes()

whole = Path(place) / "whole"
assert forked(lambda: main([*asked, "--out", str(whole)])) == 0
for n in range(1, 1000):
    out = Path(place) / str(n)

    def dying():
        die_before(n, out)
        return main([*asked, "--out", str(out)])

    status = forked(dying)
    if status == 0:
        break
    assert status == 9, (n, status)
    again = [*asked[:1], "--framework", "torch", "--out", str(out), "--resume", "--begin"]
    again = again if (out / run_folder.CONFIG).exists() else [*asked, "--out", str(out)]
    status = forked(lambda: main(again))
    assert status == 0, (n, status)
    steps = [json.loads(line)["step"] for line in (out / "torch/metrics.jsonl").open()]
    assert steps == [1, 2, 3], (n, steps)
    assert state(out) == state(whole), n
    left = [path.name for path in out.rglob("*") if path.name.startswith(".")]
    assert left == [] and not (out / "run.lock").exists(), (n, left)
print(n)
"""


@pytest.mark.slow
def test_a_run_that_dies_at_any_file_operation_goes_on(text, tmp_path, record_property):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    words = [sys.executable, "-c", DIES_EVERYWHERE, str(text), str(tmp_path), *SMALL]
    run = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    record_property("attacks", int(run.stdout))
    assert int(run.stdout) > 40  # moments at which it died


@pytest.mark.slow
def test_runs_ended_by_any_signal_go_on_bit_for_bit(framework, text, tmp_path, record_property):
    record_property("attacks", 3 * KILLS)
    name, draw = framework.name, random.Random(0)
    asked = (*SMALL, "--framework", name, "--data", text, "--steps", STEPS)
    asked += ("--checkpoint-every", 5, "--resume", "--begin", "--out")
    with Run(*asked, tmp_path / "whole") as whole:
        whole.ends(0, within=600)
    for kill in range(3 * KILLS):
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)[kill % 3]
        out = tmp_path / f"killed-{kill}"
        with Run(*asked, out) as run:
            if draw.random() < 0.8:  # else before its first step
                run.wait_for_steps(out / name / metrics.FILE, 1)
            time.sleep(draw.uniform(0, 0.5))
            run.process.send_signal(number)
            said = run.process.communicate(timeout=120)[0]
        # Until the first of our lines runs, Python ends by the signal itself; nothing is there yet.
        unbegun = run.process.returncode == -number and not out.exists()
        assert unbegun or run.process.returncode in (0, -9, 130, 128 + number), said
        assert "Traceback" not in said
        with Run(*asked, out) as last:
            last.ends(0, within=600)
        assert_same_run(out, tmp_path / "whole", name, STEPS)
        left = [path for path in out.rglob("*") if path.name.startswith(".")]
        assert left == []
        assert not (out / run_lock.FILE).exists()
