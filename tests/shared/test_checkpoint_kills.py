"""A checkpoint replaced: whole before and after, wherever the process is killed."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared.checkpoint import load, newest, save, steps
from tests.helpers.checkpoints import (
    assert_same,
    damage,
    make_checkpoint,
    names_in,
)

pytestmark = pytest.mark.attack("data")

ROOT = Path(__file__).parents[2]


def test_an_identical_good_checkpoint_is_kept(tmp_path):
    path = save(tmp_path, make_checkpoint())
    before = path.stat().st_ino
    save(tmp_path, make_checkpoint())
    assert path.stat().st_ino == before
    assert names_in(tmp_path) == ["step-000100"]


@pytest.mark.parametrize("damaged", [True, False])
def test_another_or_a_damaged_checkpoint_of_the_step_is_replaced(tmp_path, damaged):
    path = save(tmp_path, make_checkpoint())
    if damaged:
        damage(path)
    given = make_checkpoint() if damaged else make_checkpoint(extra={"again": True})
    assert save(tmp_path, given) == path
    assert_same(load(path), given)
    assert names_in(tmp_path) == ["step-000100"]


def _dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_only_leftovers_of_dead_processes_are_cleared(tmp_path):
    dead, living = _dead_process(), os.getppid()
    (tmp_path / "file").write_bytes(b"")
    others = ["file", ".step-000007.new", f".step-7x.new.{dead}", f".mine.new.{dead}", ".cache"]
    for name in others[1:]:
        (tmp_path / name).mkdir()
    for pid in (dead, os.getpid(), 10**30, living):
        for kind in ("new", "gone"):
            folder = tmp_path / f".step-000007.{kind}.{pid}"
            folder.mkdir()
            (folder / "params.safetensors").write_bytes(b"half")
    save(tmp_path, make_checkpoint())
    kept = [f".step-000007.{kind}.{living}" for kind in ("new", "gone")]
    assert names_in(tmp_path) == sorted(["step-000100", *others, *kept])
    assert steps(tmp_path) == [100]


def test_a_checkpoint_set_aside_is_found_and_comes_back(tmp_path):
    given = make_checkpoint()
    path = save(tmp_path, given)
    aside = tmp_path / f".step-000100.aside.{_dead_process()}"
    path.rename(aside)
    assert steps(tmp_path) == [100]
    found, passed_over = newest([tmp_path])
    assert (found.path, passed_over) == (aside, [])
    save(tmp_path, make_checkpoint(50))
    assert names_in(tmp_path) == ["step-000050", "step-000100"]
    assert_same(load(path), given)
    path.rename(aside)
    save(tmp_path, make_checkpoint(extra={"again": True}))
    assert names_in(tmp_path) == ["step-000050", "step-000100"]
    assert load(path).extra == {"again": True}


# Dies before the n-th thing that it does to the disk, for every n, while it replaces step 2 and
# deletes step 1. Forks, so that Python and NumPy start once.
DIES_EVERYWHERE = """
import os, sys
from dataclasses import replace
from shared import checkpoint

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def die_before(n):
    left = iter(range(n - 1))
    def hook(event, _):
        if event in TOUCHES and next(left, None) is None:
            os._exit(9)
    sys.addaudithook(hook)

start, folder = checkpoint.load(sys.argv[1]), sys.argv[2]
former = {"n": 0}
checkpoint.save(folder, replace(start, step=2, extra=former))
for n in range(1, 300):
    checkpoint.save(folder, replace(start, step=1))
    child = os.fork()
    if child == 0:
        die_before(n)
        checkpoint.save(folder, replace(start, step=2, extra={"n": n}))
        checkpoint.prune(folder, keep=1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found, passed_over = checkpoint.newest([folder])
    assert not passed_over, (n, passed_over)
    assert found.checkpoint.step == 2, n
    assert found.checkpoint.extra in (former, {"n": n}), n
    former = found.checkpoint.extra
    for step in checkpoint.steps(folder):
        assert step == 2 or checkpoint.load(f"{folder}/step-{step:06d}").step == step, n
    if status == 0:
        break
    assert os.waitstatus_to_exitcode(status) == 9, n
assert former == {"n": n}
assert os.listdir(folder) == ["step-000002"], os.listdir(folder)
print(n)
"""


def test_a_process_that_dies_at_any_moment_leaves_whole_checkpoints(tmp_path, record_property):
    start = save(tmp_path / "start", make_checkpoint())
    command = [sys.executable, "-c", DIES_EVERYWHERE, str(start), str(tmp_path / "checkpoints")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    record_property("attacks", int(run.stdout))
    assert int(run.stdout) > 20  # moments at which it died


KILLS = 12
# Every step is written twice, the second time as another one.
WRITES_FOR_EVER = """
import itertools, sys
from dataclasses import replace
from shared import checkpoint

start, folder = checkpoint.load(sys.argv[1]), sys.argv[2]
for n in itertools.count(2 * max(checkpoint.steps(folder), default=0) + 2):
    params = {name: value + n // 2 for name, value in start.params.items()}
    checkpoint.save(folder, replace(start, step=n // 2, params=params, extra={"n": n}))
    checkpoint.prune(folder, keep=3)
    print(n // 2, flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_whole_checkpoints(tmp_path, record_property):
    record_property("attacks", KILLS)
    given = make_checkpoint()
    start, folder = save(tmp_path / "start", given), tmp_path / "checkpoints"
    command = [sys.executable, "-c", WRITES_FOR_EVER, str(start), str(folder)]
    drawn = random.Random(0)
    for kill in range(KILLS):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            time.sleep(drawn.uniform(0, 0.05))
            process.kill()
            written = [int(line) for line in [first, *process.stdout] if line.endswith("\n")]
        found, passed_over = newest([folder])
        assert passed_over == [], kill
        assert found.checkpoint.step >= written[-1], kill
        assert found.checkpoint.extra["n"] // 2 == found.checkpoint.step, kill
        wte = given.params["wte.weight"] + found.checkpoint.step
        assert np.array_equal(found.checkpoint.params["wte.weight"], wte), kill
        for path in folder.glob("step-*"):
            load(path)
    save(folder, given)
    assert [name for name in names_in(folder) if name.startswith(".")] == []
