"""A training that dies at any file operation leaves a folder that goes on."""

import os
import subprocess
import sys

import pytest

from bench.harness.frameworks import installed
from tests.helpers.runs import ROOT, SMALL

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
def test_a_run_that_dies_at_any_file_operation_goes_on(text, tmp_path):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    words = [sys.executable, "-c", DIES_EVERYWHERE, str(text), str(tmp_path), *SMALL]
    run = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 40  # moments at which it died
