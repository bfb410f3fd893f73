"""The launcher of processes: wrong calls, signals, and runs that torchrun starts again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from bench.cli import main
from bench.harness.frameworks import installed
from bench.training import launcher, metrics
from tests.helpers.runs import (
    DIVISIBLE,
    HOST,
    Run,
    assert_same_run,
    assert_whole,
    environment,
    minutes,
    refused,
    rows_of,
)


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
        (
            "--patience 1e300",
            "--patience is 1e+300: expected seconds, over 0 and at most 1,000,000",
        ),
        ("--data-parallel 0", "data_parallel is 0: expected a whole number from 1"),
    ],
)
def test_a_wrong_launch_is_refused_in_one_sentence(one, capsys, tmp_path, arguments, said):
    given = ["train", "--framework", one, *arguments.split(), "--out", str(tmp_path / "run")]
    assert main.main(given) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "run").exists(), "something was left behind"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--processes 100", "--processes is 100: expected 64 on one host at most"),
        ("--sharded 1000000", "--processes is 1000000: expected 64 on one host at most"),
        ("--processes 3", "batch_size 8 is not divisible by micro_batches 1 times data_parallel 3"),
        ("--processes 3 --init gpt2", "is not divisible by micro_batches 1 times data_parallel 3"),
        ("--processes 4 --sharded 3", "--sharded 3 make 3 processes, but 4 were started"),
        ("--processes 2 --length 999", "length 999 is over the model's context_length 128"),
    ],
)
@pytest.mark.attack("processes")
def test_processes_that_cannot_divide_the_run_are_not_even_started(
    one, capsys, monkeypatch, tmp_path, arguments, said
):
    monkeypatch.setattr(launcher, "_start", lambda *_: pytest.fail("a process was started"))
    asked = ["--framework", one, "--preset", "tiny", *arguments.split(), "--out", tmp_path / "run"]
    assert said in refused(capsys, *asked)


@pytest.mark.slow("jax")
@pytest.mark.attack("processes")
def test_a_run_that_is_resumed_is_divided_as_it_was_begun(begun, framework, capsys, monkeypatch):
    monkeypatch.setattr(launcher, "_start", lambda *_: pytest.fail("a process was started"))
    asked = ("--framework", framework.name, "--out", begun, "--resume", "--processes", 4)
    assert "batch_size 2 is not divisible" in refused(capsys, *asked)


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
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    variables |= {"MASTER_PORT": "29500", "TORCHELASTIC_MAX_RESTARTS": "0" if arguments else "3"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main.main(["train", "--framework", one, *arguments]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(("status", "left"), [(130, 130), (3, -signal.SIGKILL)])
@pytest.mark.attack("processes")
def test_only_an_interrupted_process_has_time_for_its_checkpoint(monkeypatch, status, left):
    monkeypatch.setattr(launcher, "_GRACE", 0.2)
    code = "import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    first, second = (
        subprocess.Popen([sys.executable, "-c", code, seconds, str(status)], text=True)
        for seconds in ("0", "1.5")
    )
    assert launcher._wait([second, first]) == status
    assert (first.returncode, second.returncode) == (status, left)


@minutes
@pytest.mark.attack("processes")
def test_ctrl_c_stops_the_run_with_a_checkpoint(one, text, tmp_path):
    out = tmp_path / "run"
    asked = (*DIVISIBLE, "--framework", one, "--data", text, "--steps", 10_000, "--processes", 2)
    with Run(*asked, "--out", out) as run:
        run.wait_for_steps(out / one / metrics.FILE, 5)
        run.process.send_signal(signal.SIGINT)
        run.ends(130, within=60)
    assert assert_whole(out, one) == rows_of(out, one)[-1]["step"]


@minutes
@pytest.mark.attack("processes")
def test_processes_save_themselves_when_their_parent_is_killed(one, text, tmp_path):
    out = tmp_path / "run"
    asked = (*DIVISIBLE, "--framework", one, "--data", text, "--steps", 10_000, "--processes", 2)
    with Run(*asked, "--out", out) as run:
        run.wait_for_steps(out / one / metrics.FILE, 5)
        ranks = [run.rank(0), run.rank(1)]
        run.process.kill()
        deadline = time.monotonic() + 60
        while any(environment(pid) for pid in ranks):
            assert time.monotonic() < deadline, "they go on without it"
            time.sleep(0.05)
    assert assert_whole(out, one) == rows_of(out, one)[-1]["step"]


@minutes
@pytest.mark.attack("processes")
def test_a_run_that_torchrun_restarts_goes_on(text, tmp_path):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    asked = (*DIVISIBLE, "--framework", "torch", "--data", text, "--steps", 60)
    asked += ("--checkpoint-every", 5, "--out")
    with Run(*asked, tmp_path / "whole", "--processes", 2) as whole:
        whole.ends(0)
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    torchrun += ["--no-python"]
    with Run(*asked, out, before=torchrun) as run:
        run.wait_for_steps(out / "torch" / metrics.FILE, 12)
        os.kill(run.rank(1), signal.SIGKILL)
        said = run.process.communicate(timeout=120)[0]
        assert run.process.returncode == 0, said
    assert f"rank 1 on host {HOST} died in step " in said
    assert "Going on from" in said
    assert_same_run(out, tmp_path / "whole", "torch", 60)


def test_a_process_that_cannot_begin_says_why_where_rank_0_cannot_be_told(
    one, monkeypatch, capsys, tmp_path
):
    port = str(launcher.free_port())
    world = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (world | {"MASTER_PORT": port, "TWINGRAD_RUN_TOKEN": "known"}).items():
        monkeypatch.setenv(name, value)
    asked = (
        "--framework",
        one,
        "--preset",
        "tiny",
        "--data",
        tmp_path / "absent.txt",
        "--patience",
        0.3,
    )
    said = refused(capsys, *asked, "--out", tmp_path / "run")
    assert "absent.txt does not exist" in said
    assert "rank 1 did not meet rank 0" in said
    assert not (tmp_path / "run").exists()


@minutes
@pytest.mark.attack("processes")
def test_a_host_that_torchrun_has_lost_is_replaced_by_another(text, tmp_path):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    out, port = tmp_path / "run", launcher.free_port()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--max-restarts"]
    torchrun += ["3", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "run"]
    torchrun += ["--rdzv-endpoint", f"localhost:{port}", "--no-python"]
    asked = (*DIVISIBLE, "--framework", "torch", "--data", text, "--steps", 10_000, "--resume")
    asked += ("--begin", "--checkpoint-every", 5, "--out", out)
    # Else an agent that has met others once does not tell a new one where to meet.
    told = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with Run(*asked, before=torchrun, **told) as first:
        _wait_until_open(port)
        with Run(*asked, before=torchrun, **told):
            first.wait_for_steps(out / "torch" / metrics.FILE, 12)
        last = rows_of(out, "torch")[-1]["step"]
        with Run(*asked, before=torchrun, **told):
            first.wait_for_steps(out / "torch" / metrics.FILE, 30)
    steps = [row["step"] for row in rows_of(out, "torch")]
    assert steps == [*range(1, len(steps) + 1)]
    assert steps[-1] > last


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise AssertionError("torchrun did not begin to listen")
