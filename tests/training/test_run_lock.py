"""A run folder belongs to one training at a time, and to nobody once that has died."""

import os
import signal
import subprocess
import sys

import pytest

from bench.training import run_folder, run_lock
from bench.training.run_lock import RunLock
from shared.whole import whole_file
from shared.world import World
from tests.helpers.runs import ROOT, SMALL, Run, refused

pytestmark = pytest.mark.attack("data")

ALONE = World.from_environment({})
KILLED = """
import os, signal, sys
from pathlib import Path
from bench.training.run_lock import RunLock
from shared.world import World
RunLock(Path(sys.argv[1]), World.from_environment({})).take()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_second_training_is_refused_with_who_holds_the_folder(tmp_path):
    with RunLock(tmp_path, ALONE) as first:
        first.take()
        first.take()  # it has it
        with pytest.raises(
            ValueError, match=rf"process {os.getpid()} on .* since .*choose another"
        ):
            RunLock(tmp_path, ALONE).take()
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path, ALONE) as second:
        second.take()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / run_lock.FILE).exists()
    with RunLock(tmp_path, ALONE) as lock:
        lock.take()
        assert f"process {os.getpid()} on" in (tmp_path / run_lock.FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_half_written_is_removed_and_no_other_file(tmp_path):
    abandoned = tmp_path / f".loss.png.{'0' * 16}.twingrad"
    others = [tmp_path / ".loss.png.twingrad", tmp_path / f"loss.png.{'0' * 16}.twingrad"]
    for path in (abandoned, *others):
        path.write_bytes(b"half")
    with whole_file(tmp_path / "metrics.jsonl") as file, RunLock(tmp_path, World()) as lock:
        lock.take()
        assert not abandoned.exists()
        file.write(b"of a process that is alive")
    assert all(path.exists() for path in (*others, tmp_path / "metrics.jsonl"))


def test_of_several_processes_the_first_holds_it(tmp_path):
    with RunLock(tmp_path, ALONE) as first:
        first.take()
        RunLock(tmp_path, World(rank=1, size=2, local_rank=1)).take()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "outside").write_text("kept")
    (tmp_path / run_lock.FILE).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"cannot write .*run\.lock"):
        RunLock(tmp_path, ALONE).take()
    assert (tmp_path / "outside").read_text() == "kept"


@pytest.mark.slow("jax")
def test_a_run_that_goes_on_is_not_resumed_beside_itself(begun, framework, capsys):
    before = (begun / framework.name / "metrics.jsonl").read_bytes()
    with RunLock(begun, ALONE) as lock:
        lock.take()
        said = refused(capsys, "--framework", framework.name, "--out", begun, "--resume")
    assert "is being trained in by process" in said
    assert (begun / framework.name / "metrics.jsonl").read_bytes() == before


def test_two_fresh_runs_do_not_mix_in_one_folder(one, text, tmp_path, capsys):
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 2, "--out", tmp_path)
    with RunLock(tmp_path, ALONE) as lock:
        lock.take()
        assert "is being trained in by process" in refused(capsys, *asked)
    assert not (tmp_path / run_folder.CONFIG).exists()


@pytest.mark.slow
def test_of_two_trainings_into_one_folder_one_is_refused(one, text, tmp_path):
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 60, "--out", tmp_path / "run")
    with Run(*asked) as left, Run(*asked) as right:
        said = [run.process.communicate(timeout=120)[0] for run in (left, right)]
        statuses = {run.process.returncode: said[i] for i, run in enumerate((left, right))}
    assert sorted(statuses) == [0, 2], said
    assert "is being trained in by" in statuses[2] or "has begun in" in statuses[2]
    rows = (tmp_path / "run" / one / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 60
