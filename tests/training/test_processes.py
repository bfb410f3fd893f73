"""Training runs in several processes: started, killed, stopped, cut off, resumed in another layout.

Run with ``TWINGRAD_KILLS=20 pytest --all -n0 tests/training/test_processes.py``; without that
variable only those that take seconds run. Those that need hosts make them of network namespaces,
which takes the rights of root.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bench.harness.frameworks import NAMES, Framework, installed
from bench.harness.frameworks import one as one_framework
from bench.training import launcher, metrics, processes
from bench.training.config import RunSettings
from shared.rendezvous import Limits
from tests.helpers.runs import (
    DIVISIBLE,
    HOST,
    ROOT,
    Run,
    assert_same_run,
    assert_whole,
    minutes,
    rows_of,
    state,
    train,
)

# How often a process is killed; 20 is what the project claims.
KILLS = int(os.environ.get("TWINGRAD_KILLS", "0"))
# What the project states: how long after a death, or after the last beat, all have ended.
DEATH, SILENCE = 5, 10 + 5
STEPS = 40


@pytest.fixture(scope="module", params=["torch", pytest.param("jax", marks=minutes)])
def framework(request) -> Framework:
    """Each half whose framework is installed; JAX's processes are the slower ones to begin."""
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return one_framework(request.param)


@pytest.fixture(scope="module")
def alone(framework, text, tmp_path_factory) -> Path:
    """A run in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    options = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", STEPS)
    assert train(*options, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def pair(framework, text, tmp_path_factory) -> Path:
    """The same run in two processes that hold the model together, one of which was killed."""
    out = tmp_path_factory.mktemp("pair") / "run"
    asked = (
        *DIVISIBLE,
        "--framework",
        framework.name,
        "--data",
        text,
        "--steps",
        STEPS,
        "--out",
        out,
    )
    with Run(*asked, "--checkpoint-every", 1, "--sharded", 2) as run:
        run.wait_for_steps(out / framework.name / metrics.FILE, 8)
        os.kill(run.rank(1), signal.SIGKILL)
        said = run.ends(1, within=DEATH)
    assert said.count("2 processes that hold the model together") == 1, "rank 0 alone speaks"
    assert f"rank 1 on host {HOST} died in step " in said
    assert "the newest whole checkpoint is " in said
    return out


@pytest.mark.slow
@pytest.mark.attack("processes")
def test_what_two_processes_lost_goes_on_in_either_framework(
    frameworks, framework, pair, alone, tmp_path
):
    assert_whole(pair, framework.name)
    for other in frameworks:
        out = shutil.copytree(pair, tmp_path / other.name)
        resume = ("--framework", other.name, "--out", out, "--resume")
        assert train(*resume, "--device", "cpu") == 0
        if other.name == framework.name:
            assert_same_run(out, alone, framework.name, STEPS, relative=1e-10)
        ours, theirs = state(out, other.name, STEPS), state(alone, framework.name, STEPS)
        for key, value in ours.params.items():
            assert np.abs(value - theirs.params[key]).max() <= 1e-10 * np.abs(value).max(), key


@minutes
def test_two_processes_end_what_one_began(framework, text, alone, tmp_path):
    out = tmp_path / "run"
    options = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", STEPS)
    assert train(*options, "--stop-after", 20, "--out", out) == 0
    with Run("--framework", framework.name, "--processes", 2, "--resume", "--out", out) as run:
        run.ends(0)
    assert_same_run(out, alone, framework.name, STEPS, relative=1e-10)


@minutes
def test_both_frameworks_run_in_the_same_processes(frameworks, text, tmp_path):
    asked = (*DIVISIBLE, "--framework", "both", "--data", text, "--steps", 4)
    with Run(*asked, "--processes", 2, "--out", tmp_path / "run") as run:
        run.ends(0)
    ours, theirs = (rows_of(tmp_path / "run", name) for name in NAMES)
    for one, other in zip(ours, theirs, strict=True):
        for key in ("loss", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-10, abs=0), one["step"]


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ({}, 1, (1, 1)),
        ({}, 4, (4, 1)),
        ({"sharded": 4}, 4, (1, 4)),
        ({"sharded": 2}, 4, (2, 2)),
        ({"data_parallel": 2}, 4, (2, 2)),
        ({"data_parallel": 2, "sharded": 1}, 2, (2, 1)),
    ],
)
def test_what_is_not_given_of_the_layout_follows(given, size, expected):
    assert processes.split_processes(RunSettings(**given), size) == expected


def test_an_error_in_the_data_is_printed_once(one, tmp_path):
    with Run("--framework", one, "--processes", 2, "--data", "nowhere.txt", "--out", "x") as run:
        said = run.ends(2)
    *stages, error = said.splitlines()
    assert error.startswith(f"twingrad: rank 0 on host {HOST}: nowhere.txt does not exist")
    known = ("reading the data", "training the tokenizer")
    assert all(line.endswith(known) for line in stages), stages


@pytest.mark.slow
@pytest.mark.attack("network")
def test_a_process_that_was_started_otherwise_is_named(one, text, tmp_path):
    port = str(launcher.free_port())
    asked = (
        *DIVISIBLE,
        "--framework",
        one,
        "--data",
        text,
        "--steps",
        4,
        "--out",
        tmp_path / "run",
    )
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        Run(*asked, RANK="0", LOCAL_RANK="0", **world) as first,
        Run(*asked, "--seed", 1, RANK="1", LOCAL_RANK="1", **world) as second,
    ):
        for run in (first, second):
            said = run.ends(2)
            assert f"rank 1 on host {HOST} was started with seed 1, rank 0 with 0" in said
    assert not (tmp_path / "run").exists(), "something was left behind"


# Failures


def test_the_documentation_states_the_limits():
    text = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    limits = Limits()
    for seconds in (limits.silence, limits.patience, limits.grace):
        assert f"{seconds:g} s" in text, seconds


@minutes
@pytest.mark.attack("processes")
def test_a_run_with_killed_processes_ends_as_if_undisturbed(framework, text, tmp_path):
    steps, killed = 20 * KILLS, tmp_path / "killed"
    asked = (
        *DIVISIBLE,
        "--framework",
        framework.name,
        "--data",
        text,
        "--steps",
        steps,
        "--sharded",
        2,
    )
    asked += ("--checkpoint-every", 1, "--keep", 2, "--resume", "--begin", "--out")
    long = 60 * KILLS  # not what is tested: so many steps, a checkpoint after each
    with Run(*asked, tmp_path / "whole") as whole:
        whole.ends(0, within=long)
    draw = random.Random(0)
    for _ in range(KILLS):
        with Run(*asked, killed) as run:
            run.wait_for_steps(killed / framework.name / metrics.FILE, draw.randrange(1, 8))
            rank = draw.randrange(2)
            time.sleep(draw.uniform(0, 0.1))
            os.kill(run.rank(rank), signal.SIGKILL)
            said = run.ends(1, within=DEATH)
        assert f"rank {rank} on host {HOST} died in step " in said
        assert re.search(r"the newest whole checkpoint is \S+: start it again with --out", said)
        assert_whole(killed, framework.name)
    with Run(*asked, killed) as last:
        last.ends(0, within=long)
    assert_same_run(killed, tmp_path / "whole", framework.name, steps)


@minutes
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.attack("processes")
def test_a_stopped_process_ends_the_run_in_time(one, text, tmp_path, rank):
    out = tmp_path / "run"
    asked = (*DIVISIBLE, "--framework", one, "--data", text, "--steps", 10_000)
    asked += ("--checkpoint-every", 5, "--out", out)
    port = str(launcher.free_port())
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        Run(*asked, RANK="0", LOCAL_RANK="0", **world) as first,
        Run(*asked, RANK="1", LOCAL_RANK="1", **world) as second,
    ):
        first.wait_for_steps(out / one / metrics.FILE, 8)
        ours = (first, second)
        ours[rank].process.send_signal(signal.SIGSTOP)
        said = ours[1 - rank].ends(1, within=SILENCE)
        assert f"rank {rank} on host {HOST} was not heard of for 10 s, in step " in said
        ours[rank].process.send_signal(signal.SIGCONT)
        ours[rank].ends(1, within=DEATH)
    assert_whole(out, one)


@minutes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.attack("processes")
def test_all_stop_after_one_step_when_one_is_told(framework, text, tmp_path, number):
    out = tmp_path / "run"
    asked = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", 10_000)
    with Run(*asked, "--processes", 2, "--out", out) as run:
        run.wait_for_steps(out / framework.name / metrics.FILE, 5)
        os.kill(run.rank(1), number)
        said = run.ends(130, within=60)
    step = rows_of(out, framework.name)[-1]["step"]
    assert f"Stopped at step {step} of 10000; go on with" in said
    assert assert_whole(out, framework.name) == step


@minutes
@pytest.mark.attack("processes")
def test_a_full_disk_of_rank_0_loses_nothing(framework, text, tmp_path):
    """Started as SLURM would."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=7600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    out = small / "run"
    asked = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", 8, "--keep", 8)
    asked += ("--checkpoint-every", 1, "--out", out)
    job = {"SLURM_JOB_ID": str(launcher.free_port() % 4096), "SLURM_NTASKS": "2"}
    job |= {"SLURM_STEP_NODELIST": "localhost"}
    try:
        with (
            Run(*asked, SLURM_PROCID="0", SLURM_LOCALID="0", **job) as first,
            Run(*asked, SLURM_PROCID="1", SLURM_LOCALID="1", **job) as second,
        ):
            for run in (first, second):
                said = run.ends(1)
                assert f"rank 0 on host {HOST}, in step " in said
                assert "No space left on device" in said
                assert "the newest whole checkpoint is " in said
        assert not list((out / framework.name / "checkpoints").glob(".*")), (
            "half a checkpoint is left"
        )
        assert rows_of(out, framework.name)[-1]["step"] >= assert_whole(out, framework.name)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@minutes
@pytest.mark.attack("processes")
def test_a_loss_that_is_not_finite_stops_all_processes(framework, text, tmp_path):
    asked = (
        *DIVISIBLE,
        "--framework",
        framework.name,
        "--data",
        text,
        "--steps",
        50,
        "--warmup",
        0,
    )
    asked += ("--learning-rate", 1e30, "--max-grad-norm", 1e30, "--checkpoint-every", 1)
    with Run(*asked, "--processes", 2, "--out", tmp_path / "run") as run:
        said = run.ends(1)
    step = rows_of(tmp_path / "run", framework.name)[-1]["step"]
    assert f"Stopped at step {step + 1} in {framework.name}" in said
    assert f"twingrad: stopped at step {step + 1} in {framework.name}" in said, "rank 1 says so too"
    assert "resume it in one process" in said
    assert assert_whole(tmp_path / "run", framework.name) == step


# Two hosts


@pytest.fixture
def hosts(tmp_path) -> Iterator[list[list[str]]]:
    """Two hosts with a cable between them: how a command is begun on each."""
    names = [f"twin{os.getpid()}{letter}" for letter in "ab"]
    addresses = ["10.213.7.1", "10.213.7.2"]
    table = tmp_path / "hosts"
    table.write_text(f"127.0.0.1 localhost\n{addresses[0]} host-a\n{addresses[1]} host-b\n")
    with ExitStack() as made:
        for name in names:
            if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
                pytest.skip("no network namespace can be made here")
            made.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
        _ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "cable",
            "netns",
            names[1],
        )
        for name, address in zip(names, addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        setting = f'mount --bind {table} /etc/hosts && hostname $0 && exec "$@"'
        yield [
            ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c", setting, host]
            for name, host in zip(names, ("host-a", "host-b"), strict=True)
        ]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@minutes
@pytest.mark.attack("network")
def test_a_cut_cable_is_reported_on_both_hosts(framework, hosts, text, tmp_path):
    asked = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", 2000)
    asked += ("--checkpoint-every", 10, "--resume", "--begin", "--out", tmp_path / "run")
    names = ("host-a", "host-b")
    spread = [("--processes", 1, "--hosts", "host-a,host-b", "--host-index", i) for i in (0, 1)]
    with (
        Run(*asked, *spread[0], before=hosts[0]) as first,
        Run(*asked, *spread[1], before=hosts[1]) as second,
    ):
        first.wait_for_steps(tmp_path / "run" / framework.name / metrics.FILE, 30)
        namespace = hosts[0][3]
        _ip("-n", namespace, "link", "set", "cable", "down")
        for run, rank in ((first, 1), (second, 0)):
            said = run.ends(1, within=SILENCE)
            assert f"rank {rank} on host {names[rank]} was not heard of for 10 s" in said
            assert "the newest whole checkpoint is " in said
    step = assert_whole(tmp_path / "run", framework.name)
    _ip("-n", namespace, "link", "set", "cable", "up")
    more = ("--stop-after", step + 10)
    with (
        Run(*asked, *more, *spread[0], before=hosts[0]) as first,
        Run(*asked, *more, *spread[1], before=hosts[1]) as second,
    ):
        assert f"Stopped at step {step + 10} of 2000" in first.ends(0)
        second.ends(0)
