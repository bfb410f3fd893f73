"""Training sessions: alike in both frameworks, handed over, stopped, killed and resumed."""

import math
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bench.harness.frameworks import NAMES, installed
from bench.training import metrics, pretrained, run_folder
from shared import checkpoint, corpus
from tests.helpers.runs import (
    ROOT,
    SMALL,
    TINY,
    Run,
    assert_same_run,
    assert_whole,
    rows_of,
    state,
    train,
)
from tests.training.conftest import TWENTY

# How often a run is killed; 20 is what the project claims, fewer are enough to notice a change.
KILLS = int(os.environ.get("TWINGRAD_KILLS", "3"))


def test_both_report_the_same_metrics(both):
    ours, theirs = (rows_of(both, name) for name in NAMES)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert one["lr"] == other["lr"]
        for key in {"loss", "grad_norm", "val_loss"} & one.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-10, abs=0), one["step"]


def test_a_finished_run_has_nothing_left_to_do(both, capsys):
    assert train("--framework", "torch", "--out", both, "--resume") == 0
    assert "the run is at step 20" in capsys.readouterr().out


@pytest.mark.slow("torch-jax")
@pytest.mark.parametrize(("first", "second"), [("torch", "jax"), ("jax", "torch")])
def test_a_run_is_handed_over_in_the_middle(both, text, tmp_path, first, second):
    begin = ("--framework", first, *TWENTY, *SMALL, "--data", text, "--out", tmp_path / "run")
    assert train(*begin, "--stop-after", 10) == 0
    assert train("--framework", second, "--out", tmp_path / "run", "--resume") == 0
    rows = rows_of(tmp_path / "run", first) + rows_of(tmp_path / "run", second)
    for one, other in zip(rows, rows_of(both, first), strict=True):
        assert one["step"] == other["step"]
        for key in ("loss", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-10, abs=0), one["step"]
    ours, theirs = state(tmp_path / "run", second, 20), state(both, first, 20)
    for key, value in ours.params.items():
        assert np.abs(value - theirs.params[key]).max() <= 1e-10 * np.abs(value).max(), key


@pytest.mark.slow("jax")
def test_the_best_checkpoint_outlives_those_that_are_pruned(framework, text, tmp_path):
    name, folder = framework.name, tmp_path / framework.name / "checkpoints"
    asked = (*SMALL, "--framework", name, "--data", text, "--steps", 12, "--warmup", 11)
    asked += ("--learning-rate", 0.5, "--checkpoint-every", 1)
    assert train(*asked, "--eval-every", 1, "--keep", 2, "--out", tmp_path) == 0
    losses = {row["step"]: row["val_loss"] for row in rows_of(tmp_path, name)}
    best = min(losses, key=losses.__getitem__)
    assert best < 11, "the rate climbs until the loss does"
    assert checkpoint.steps(folder) == [best, 11, 12]
    model = pretrained.load(str(tmp_path), best=True)
    kept = state(tmp_path, name, best).params
    assert all(np.array_equal(model.params[key], value) for key, value in kept.items())


@pytest.mark.slow
@pytest.mark.attack("data")
def test_a_run_killed_repeatedly_ends_as_if_never_killed(
    framework, text, tmp_path, record_property
):
    record_property("attacks", KILLS)
    steps = 40 * KILLS
    options = (*SMALL, "--framework", framework.name, "--data", text, "--steps", steps)
    options += ("--checkpoint-every", 1, "--keep", 2, "--resume", "--begin", "--out")
    long = 300 + 60 * KILLS  # not what is tested: so many steps, a checkpoint after each
    with Run(*options, tmp_path / "whole") as whole:
        whole.ends(0, within=long)
    draw, killed = random.Random(0), tmp_path / "killed"
    path = killed / framework.name / metrics.FILE
    for number in range(KILLS):
        with Run(*options, killed) as run:
            # With a checkpoint a step, most of the time is spent in the middle of writing one.
            if number:
                run.wait_for_steps(path, 1)
            time.sleep(draw.uniform(0, 0.4))
            assert run.process.poll() is None, run.process.communicate()[0]
            run.process.kill()
        if number:
            assert_whole(killed, framework.name)
    with Run(*options, killed) as last:
        last.ends(0, within=long)
    assert_same_run(killed, tmp_path / "whole", framework.name, steps)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.attack("data")
def test_an_interrupted_run_saves_itself_and_goes_on(text, tmp_path, number):
    if not installed("torch"):
        pytest.skip("torch is not installed")
    options = (*SMALL, "--framework", "torch", "--data", text, "--steps", 400, "--out", tmp_path)
    with Run(*options) as run:
        run.wait_for_steps(tmp_path / "torch" / metrics.FILE, 3)
        run.process.send_signal(number)
        output = run.ends(130)
    step = rows_of(tmp_path, "torch")[-1]["step"]
    assert checkpoint.steps(tmp_path / "torch" / "checkpoints")[-1] == step
    assert f"Stopped at step {step} of 400; go on with" in output
    assert (tmp_path / run_folder.PLOT).exists()
    resume = ("--framework", "torch", "--out", tmp_path, "--resume")
    assert train(*resume, "--stop-after", step + 1) == 0
    assert [row["step"] for row in rows_of(tmp_path, "torch")] == list(range(1, step + 2))


@pytest.mark.slow("torch", "jax")
def test_training_loads_the_one_framework_that_it_uses(framework, text, tmp_path):
    other = {"torch": "jax", "jax": "torch"}[framework.name]
    asked = ["train", *SMALL, "--framework", framework.name, "--steps", "1", "--data", str(text)]
    code = (
        "import sys; from bench.cli import main as cli; "
        f"status = cli.main({[*asked, '--out', str(tmp_path)]!r}); "
        f"sys.exit(status or ({other!r} in sys.modules and 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_source_of_known_entropy_is_learnt_never_beaten(framework, tmp_path):
    """Within 2 % of the closed form, and not under it by more than sampling explains."""
    asked = [*TINY, "--data", "markov", "--steps", 300, "--length", 32, "--batch-size", 16]
    asked += ["--drop-rate", 0, "--learning-rate", 0.005, "--eval-batches", 60]
    assert train("--framework", framework.name, *asked, "--out", tmp_path / "run") == 0
    rate = corpus.load("markov", None, 256).entropy_rate
    loss = rows_of(tmp_path / "run", framework.name)[-1]["val_loss"]
    # A token's surprise spreads by less than two nats, and so many were taken the mean of.
    error = 2 / math.sqrt(60 * 16 * 32)
    assert rate - 3 * error < loss < 1.02 * rate


@pytest.mark.slow("jax")
def test_a_run_that_compiles_says_so_before_its_first_step(framework, text, tmp_path, capsys):
    asked = ("--framework", framework.name, *SMALL, "--data", text, "--steps", 2)
    assert train(*asked, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    told = "Compiling in JAX before the first step"
    assert (told in said) == (framework.name == "jax")
    assert told not in said.partition("step 2:")[2]
