"""Training runs in several processes: started, killed, stopped, cut off, resumed in another layout.

Run with ``TWINGRAD_KILLS=20 pytest -n0 tests/test_processes.py``; without that variable only those
that take seconds run. Those that need hosts make them of network namespaces, which takes the rights
of root.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.harness import frameworks
from bench.training import launcher as training_launcher
from bench.training import processes as training_processes
from bench.training import run_folder
from shared import checkpoint
from shared.rendezvous import Limits

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()
# Small enough for a process a second.
SMALL = ["--length", "16", "--batch-size", "4", "--eval-batches", "2", "--eval-every", "1000"]
SMALL += ["--dtype", "float64", "--device", "cpu", "--micro-batches", "2"]
# How often a process is killed; 20 is what the project claims.
KILLS = int(os.environ.get("TWINGRAD_KILLS", "0"))
minutes = pytest.mark.skipif(
    not KILLS, reason="takes minutes with many processes: set TWINGRAD_KILLS to a number, as 20"
)
# What the project states: how long after a death, or after the last beat, all have ended.
DEATH, SILENCE = 5, 10 + 5


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """A text file of our own words."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = (ROOT / "README.md").read_text(encoding="utf-8")
    path.write_text(words * 2, encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory) -> Iterator[Path]:
    """Where processes keep what they have compiled and tokenised, so that it is done once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


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
                if f"RANK={rank}" in _environment(pid):
                    return pid
            time.sleep(0.01)
        raise AssertionError(f"there is no rank {rank}")

    def wait_for_steps(self, metrics: Path, more: int) -> None:
        """Until so many ``more`` steps are in ``metrics`` than now."""
        wanted = _lines(metrics) + more
        deadline = time.monotonic() + 120
        while _lines(metrics) < wanted:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.005)

    def ends(self, status: int, within: float = 300) -> str:
        """What it has said, once it has ended with ``status``, in so many seconds."""
        said = self.process.communicate(timeout=within)[0]
        assert self.process.returncode == status, said
        assert "Traceback" not in said, said
        return said


def _descendants(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [
            int(child) for task in tasks for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (child, *_descendants(child))]


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _metrics(out: Path, name: str) -> list[dict]:
    lines = (out / name / run_folder.METRICS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _state(out: Path, name: str, step: int) -> checkpoint.Checkpoint:
    return checkpoint.load(out / name / "checkpoints" / f"step-{step:06d}")


def _assert_same_run(ours: Path, theirs: Path, name: str, steps: int, relative: float = 0) -> None:
    """Two runs of one framework came to the same numbers."""
    one, other = _metrics(ours, name), _metrics(theirs, name)
    assert [row["step"] for row in one] == [row["step"] for row in other] == [*range(1, steps + 1)]
    for left, right in zip(one, other, strict=True):
        for key in {"loss", "grad_norm", "lr", "val_loss"} & left.keys() & right.keys():
            assert left[key] == pytest.approx(right[key], rel=relative, abs=0), left["step"]
    mine, yours = (_state(out, name, steps) for out in (ours, theirs))
    for part in ("params", "first_moment", "second_moment"):
        for key, value in getattr(mine, part).items():
            apart = np.abs(value - getattr(yours, part)[key]).max()
            assert apart <= relative * np.abs(value).max(), f"{part} {key}"
    assert mine.data == yours.data


def _assert_whole(out: Path, name: str) -> int:
    """Every checkpoint there is can be read; the newest one's step."""
    steps = checkpoint.steps(out / name / "checkpoints")
    assert steps, "no checkpoint is there"
    for step in steps:
        assert _state(out, name, step).step == step
    return steps[-1]


# Several processes make the same run


STEPS = 40


@pytest.fixture(scope="module", params=["torch", pytest.param("jax", marks=minutes)])
def framework(request) -> frameworks.Framework:
    """Each half whose framework is installed; JAX's processes are the slower ones to begin."""
    if not frameworks.installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return frameworks.one(request.param)


@pytest.fixture(scope="module")
def alone(framework, text, tmp_path_factory) -> Path:
    """A run in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    asked = [
        "train",
        *SMALL,
        "--framework",
        framework.name,
        "--data",
        str(text),
        "--steps",
        str(STEPS),
    ]
    assert main.main([*asked, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def pair(framework, text, tmp_path_factory) -> Path:
    """The same run in two processes that hold the model together, one of which was killed."""
    out = tmp_path_factory.mktemp("pair") / "run"
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", STEPS, "--out", out)
    with Run(*asked, "--checkpoint-every", 1, "--sharded", 2) as run:
        run.wait_for_steps(out / framework.name / run_folder.METRICS, 8)
        os.kill(run.rank(1), signal.SIGKILL)
        said = run.ends(1, within=DEATH)
    assert said.count("2 processes that hold the model together") == 1, "rank 0 alone speaks"
    assert f"rank 1 on host {HOST} died in step " in said
    assert "the newest whole checkpoint is " in said
    return out


def test_what_two_processes_began_and_lost_goes_on_in_one_and_in_the_other_framework(
    frameworks, framework, pair, alone, tmp_path
):
    _assert_whole(pair, framework.name)
    for other in frameworks:
        out = shutil.copytree(pair, tmp_path / other.name)
        asked = ["train", "--framework", other.name, "--out", str(out), "--resume"]
        assert main.main([*asked, "--device", "cpu"]) == 0
        if other.name == framework.name:
            _assert_same_run(out, alone, framework.name, STEPS, relative=1e-10)
        ours, theirs = _state(out, other.name, STEPS), _state(alone, framework.name, STEPS)
        for key, value in ours.params.items():
            assert np.abs(value - theirs.params[key]).max() <= 1e-10 * np.abs(value).max(), key


@minutes
def test_two_processes_end_what_one_began(framework, text, alone, tmp_path):
    out = tmp_path / "run"
    asked = [
        "train",
        *SMALL,
        "--framework",
        framework.name,
        "--data",
        str(text),
        "--steps",
        str(STEPS),
    ]
    assert main.main([*asked, "--stop-after", "20", "--out", str(out)]) == 0
    with Run("--framework", framework.name, "--processes", 2, "--resume", "--out", out) as run:
        run.ends(0)
    _assert_same_run(out, alone, framework.name, STEPS, relative=1e-10)


@minutes
def test_both_frameworks_run_in_the_same_processes(frameworks, text, tmp_path):
    asked = (*SMALL, "--framework", "both", "--data", text, "--steps", 4)
    with Run(*asked, "--processes", 2, "--out", tmp_path / "run") as run:
        run.ends(0)
    torch, jax = (_metrics(tmp_path / "run", framework.name) for framework in frameworks)
    for one, other in zip(torch, jax, strict=True):
        for key in ("loss", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-10, abs=0), one["step"]


@pytest.mark.parametrize(
    ("given", "processes", "expected"),
    [
        ({}, 1, (1, 1)),
        ({}, 4, (4, 1)),
        ({"sharded": 4}, 4, (1, 4)),
        ({"sharded": 2}, 4, (2, 2)),
        ({"data_parallel": 2}, 4, (2, 2)),
        ({"data_parallel": 2, "sharded": 1}, 2, (2, 1)),
    ],
)
def test_what_is_not_said_of_the_layout_follows(given, processes, expected):
    found = training_processes.layout(given, processes)
    assert (found["data_parallel"], found["sharded"]) == expected


# What is refused


@pytest.fixture(scope="module")
def one() -> str:
    """A framework that is installed."""
    return next(name for name in frameworks.NAMES if frameworks.installed(name))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--processes 0", "--processes is 0: expected 1 or more"),
        ("--processes two", "invalid int value: 'two'"),
        ("--processes 2 --port 70000", "--port is 70000: expected 1 to 65535"),
        ("--processes 2 --hosts a,b", "--host-index is None: say which of the 2 hosts a, b"),
        ("--processes 2 --hosts a,b --host-index 2", "--host-index is 2: say which"),
        ("--processes 2 --host-index 0", "--host-index is for several hosts"),
        ("--patience 0", "--patience is 0: expected seconds, over 0"),
        ("--data-parallel 0", "data_parallel is 0: expected a whole number from 1"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(one, capsys, tmp_path, arguments, said):
    given = ["train", "--framework", one, *arguments.split(), "--out", str(tmp_path / "run")]
    assert main.main(given) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "run").exists(), "something was left behind"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--processes", "2"], "--port start processes: leave them out where torchrun or srun"),
        (["--sharded", "3"], "--sharded 3 make 3 processes, but 2 were started"),
        ([], "torchrun starts this run again after a failure: name its folder by --out"),
    ],
)
def test_a_call_that_does_not_fit_its_launcher_is_refused(
    one, capsys, monkeypatch, tmp_path, arguments, said
):
    monkeypatch.chdir(tmp_path)
    launcher = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    launcher |= {"MASTER_PORT": "29500", "TORCHELASTIC_MAX_RESTARTS": "0" if arguments else "3"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert main.main(["train", "--framework", one, *arguments]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def test_what_is_wrong_with_the_data_is_said_once(one, tmp_path):
    with Run("--framework", one, "--processes", 2, "--data", "nowhere.txt", "--out", "x") as run:
        said = run.ends(2)
    assert said.startswith(f"twingrad: rank 0 on host {HOST}: nowhere.txt does not exist")
    assert said.count("\n") == 1


def test_a_process_that_was_started_otherwise_is_named(one, text, tmp_path):
    port = str(training_launcher.free_port())
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 4, "--out", tmp_path / "run")
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        Run(*asked, RANK="0", LOCAL_RANK="0", **world) as first,
        Run(*asked, "--seed", 1, RANK="1", LOCAL_RANK="1", **world) as second,
    ):
        for run in (first, second):
            said = run.ends(2)
            assert f"rank 1 on host {HOST} was started with seed 1, rank 0 with 0" in said
    assert not (tmp_path / "run").exists(), "something was left behind"


# The launcher


@pytest.mark.parametrize(("status", "left"), [(130, 130), (3, -signal.SIGKILL)])
def test_only_what_was_asked_to_stop_has_time_for_its_checkpoint(monkeypatch, status, left):
    monkeypatch.setattr(training_launcher, "_GRACE", 0.2)
    code = "import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    first, second = (
        subprocess.Popen([sys.executable, "-c", code, seconds, str(status)], text=True)
        for seconds in ("0", "1.5")
    )
    assert training_launcher._wait([second, first]) == status
    assert (first.returncode, second.returncode) == (status, left)


# What goes wrong


def test_the_documentation_states_the_limits():
    text = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    limits = Limits()
    for seconds in (limits.silence, limits.patience, limits.grace):
        assert f"{seconds:g} s" in text, seconds


@minutes
def test_a_run_whose_processes_are_killed_ends_as_if_they_had_not_been(framework, text, tmp_path):
    steps, killed = 20 * KILLS, tmp_path / "killed"
    asked = (
        *SMALL,
        "--framework",
        framework.name,
        "--data",
        text,
        "--steps",
        steps,
        "--sharded",
        2,
    )
    asked += ("--checkpoint-every", 1, "--keep", 2, "--resume", "--out")
    long = 60 * KILLS  # not what is tested: so many steps, a checkpoint after each
    with Run(*asked, tmp_path / "whole") as whole:
        whole.ends(0, within=long)
    draw = random.Random(0)
    for _ in range(KILLS):
        with Run(*asked, killed) as run:
            run.wait_for_steps(killed / framework.name / run_folder.METRICS, draw.randrange(1, 8))
            rank = draw.randrange(2)
            time.sleep(draw.uniform(0, 0.1))
            os.kill(run.rank(rank), signal.SIGKILL)
            said = run.ends(1, within=DEATH)
        assert f"rank {rank} on host {HOST} died in step " in said
        assert re.search(r"the newest whole checkpoint is \S+: start it again with --out", said)
        _assert_whole(killed, framework.name)
    with Run(*asked, killed) as last:
        last.ends(0, within=long)
    _assert_same_run(killed, tmp_path / "whole", framework.name, steps)


@minutes
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_stopped_ends_the_run_in_the_stated_time(one, text, tmp_path, rank):
    out = tmp_path / "run"
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 10_000)
    asked += ("--checkpoint-every", 5, "--out", out)
    port = str(training_launcher.free_port())
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        Run(*asked, RANK="0", LOCAL_RANK="0", **world) as first,
        Run(*asked, RANK="1", LOCAL_RANK="1", **world) as second,
    ):
        first.wait_for_steps(out / one / run_folder.METRICS, 8)
        ours = (first, second)
        ours[rank].process.send_signal(signal.SIGSTOP)
        said = ours[1 - rank].ends(1, within=SILENCE)
        assert f"rank {rank} on host {HOST} was not heard of for 10 s, in step " in said
        ours[rank].process.send_signal(signal.SIGCONT)
        ours[rank].ends(1, within=DEATH)
    _assert_whole(out, one)


@minutes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_stop_after_the_same_step_when_one_is_told_to(framework, text, tmp_path, number):
    out = tmp_path / "run"
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 10_000)
    with Run(*asked, "--processes", 2, "--out", out) as run:
        run.wait_for_steps(out / framework.name / run_folder.METRICS, 5)
        os.kill(run.rank(1), number)
        said = run.ends(130, within=60)
    step = _metrics(out, framework.name)[-1]["step"]
    assert f"Stopped at step {step} of 10000; go on with" in said
    assert _assert_whole(out, framework.name) == step


@minutes
def test_ctrl_c_stops_the_run_with_a_checkpoint(one, text, tmp_path):
    out = tmp_path / "run"
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 10_000, "--processes", 2)
    with Run(*asked, "--out", out) as run:
        run.wait_for_steps(out / one / run_folder.METRICS, 5)
        run.process.send_signal(signal.SIGINT)
        run.ends(130, within=60)
    assert _assert_whole(out, one) == _metrics(out, one)[-1]["step"]


@minutes
def test_processes_end_with_a_checkpoint_when_what_started_them_is_killed(one, text, tmp_path):
    out = tmp_path / "run"
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 10_000, "--processes", 2)
    with Run(*asked, "--out", out) as run:
        run.wait_for_steps(out / one / run_folder.METRICS, 5)
        ranks = [run.rank(0), run.rank(1)]
        run.process.kill()
        deadline = time.monotonic() + 60
        while any(_environment(pid) for pid in ranks):
            assert time.monotonic() < deadline, "they go on without it"
            time.sleep(0.05)
    assert _assert_whole(out, one) == _metrics(out, one)[-1]["step"]


@minutes
def test_a_full_disk_of_rank_0_ends_the_run_and_loses_nothing(framework, text, tmp_path):
    """Started as SLURM would."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=7600k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    out = small / "run"
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 8, "--keep", 8)
    asked += ("--checkpoint-every", 1, "--out", out)
    job = {"SLURM_JOB_ID": str(training_launcher.free_port() % 4096), "SLURM_NTASKS": "2"}
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
        assert _metrics(out, framework.name)[-1]["step"] >= _assert_whole(out, framework.name)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@minutes
def test_a_loss_that_is_no_number_stops_all_processes(framework, text, tmp_path):
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 50, "--warmup", 0)
    asked += ("--learning-rate", 1e300, "--max-grad-norm", 1e300, "--checkpoint-every", 1)
    with Run(*asked, "--processes", 2, "--out", tmp_path / "run") as run:
        said = run.ends(1)
    step = _metrics(tmp_path / "run", framework.name)[-1]["step"]
    assert f"Stopped at step {step + 1} in {framework.name}" in said
    assert f"twingrad: stopped at step {step + 1} in {framework.name}" in said, "rank 1 says so too"
    assert "resume it in one process" in said
    assert _assert_whole(tmp_path / "run", framework.name) == step


@minutes
def test_torchrun_starts_a_run_again_and_it_goes_on_by_itself(text, tmp_path):
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    asked = (*SMALL, "--framework", "torch", "--data", text, "--steps", 60)
    asked += ("--checkpoint-every", 5, "--out")
    with Run(*asked, tmp_path / "whole", "--processes", 2) as whole:
        whole.ends(0)
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    torchrun += ["--no-python"]
    with Run(*asked, out, before=torchrun) as run:
        run.wait_for_steps(out / "torch" / run_folder.METRICS, 12)
        os.kill(run.rank(1), signal.SIGKILL)
        said = run.process.communicate(timeout=120)[0]
        assert run.process.returncode == 0, said
    assert f"rank 1 on host {HOST} died in step " in said
    assert "Going on from" in said
    _assert_same_run(out, tmp_path / "whole", "torch", 60)


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
def test_a_cut_cable_is_said_on_both_hosts_and_the_run_goes_on(framework, hosts, text, tmp_path):
    asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 2000)
    asked += ("--checkpoint-every", 10, "--resume", "--out", tmp_path / "run")
    names = ("host-a", "host-b")
    spread = [("--processes", 1, "--hosts", "host-a,host-b", "--host-index", i) for i in (0, 1)]
    with (
        Run(*asked, *spread[0], before=hosts[0]) as first,
        Run(*asked, *spread[1], before=hosts[1]) as second,
    ):
        first.wait_for_steps(tmp_path / "run" / framework.name / run_folder.METRICS, 30)
        namespace = hosts[0][3]
        _ip("-n", namespace, "link", "set", "cable", "down")
        for run, rank in ((first, 1), (second, 0)):
            said = run.ends(1, within=SILENCE)
            assert f"rank {rank} on host {names[rank]} was not heard of for 10 s" in said
            assert "the newest whole checkpoint is " in said
    step = _assert_whole(tmp_path / "run", framework.name)
    _ip("-n", namespace, "link", "set", "cable", "up")
    more = ("--stop-after", step + 10)
    with (
        Run(*asked, *more, *spread[0], before=hosts[0]) as first,
        Run(*asked, *more, *spread[1], before=hosts[1]) as second,
    ):
        assert f"Stopped at step {step + 10} of 2000" in first.ends(0)
        second.ends(0)
