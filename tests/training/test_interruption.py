"""Trainings that are stopped, lose their checkpoints, or leave the finite numbers."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from bench.training import command, metrics, setup
from bench.training.framework_run import FrameworkRun
from bench.training.session import Session
from shared import checkpoint
from tests.helpers.runs import SMALL, refused, rows_of, train

pytestmark = pytest.mark.attack("data")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_remembered_and_a_second_one_in_a_row_is_the_same(number):
    before = signal.signal(number, signal.SIG_DFL)  # ignored in tests that nohup has started
    try:
        with command._signals() as interrupted:
            assert not interrupted()
            signal.raise_signal(number)
            signal.raise_signal(number)
            assert interrupted()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_later_signal_ends_the_training_at_once(monkeypatch):
    monkeypatch.setattr(command, "AGAIN_S", -1)
    with command._signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
@pytest.mark.parametrize(("owner", "name"), [(setup, "prepare"), (Session, "begin")])
def test_a_signal_before_the_first_step_is_said(
    one, text, tmp_path, monkeypatch, capsys, owner, name, number, word
):
    def interrupted(*arguments):
        signal.raise_signal(number)

    monkeypatch.setattr(owner, name, interrupted)
    before = signal.signal(number, signal.SIG_DFL)  # ignored in tests that nohup has started
    try:
        asked = (*SMALL, "--framework", one, "--data", text, "--steps", 3)
        assert train(*asked, "--out", tmp_path / "run") == 128 + number
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err.endswith(f"twingrad: {word}\n")
    assert not list(tmp_path.glob("run/*lock*"))


def test_a_training_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command._signals() as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow("jax")
def test_metrics_of_lost_checkpoints_are_kept_and_said(begun, framework, capsys):
    name = framework.name
    shutil.rmtree(begun / name / "checkpoints")
    old = (begun / name / metrics.FILE).read_bytes()
    said = refused(capsys, "--framework", name, "--out", begun, "--resume")
    assert "no checkpoint in" in said
    assert (begun / name / metrics.FILE).read_bytes() == old
    again = ("--framework", name, "--out", begun, "--resume", "--begin", "--stop-after", 2)
    assert train(*again) == 0
    said = capsys.readouterr().out
    assert "Steps 1 to 4 are trained again, as their checkpoints are gone" in said
    assert (begun / name / "metrics-1.jsonl").read_bytes() == old
    assert [row["step"] for row in rows_of(begun, name)] == [1, 2]


def test_metrics_are_kept_under_a_name_that_is_free(tmp_path):
    path = tmp_path / metrics.FILE
    for number in (1, 2):
        path.write_text(str(number))
        assert metrics.keep(path) == tmp_path / f"metrics-{number}.jsonl"
        path.unlink()
        assert (tmp_path / f"metrics-{number}.jsonl").read_text() == str(number)


@pytest.mark.slow("jax*")
def test_a_step_that_leaves_the_finite_numbers_is_not_kept(framework, text, tmp_path, capsys):
    name, out = framework.name, tmp_path / "run"
    asked = (*SMALL, "--framework", name, "--data", text, "--steps", 6, "--warmup", 4)
    asked += ("--checkpoint-every", 1, "--eval-every", 1, "--learning-rate", 1e30)
    assert train(*asked, "--out", out) == 1
    said = capsys.readouterr().out
    assert "Stopped at step" in said
    assert "The last checkpoint is" in said or "No checkpoint had been written" in said
    assert "it began in the" in said or "has NaN or infinity in" in said
    for line in (out / name / metrics.FILE).read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    for step in checkpoint.steps(out / name / "checkpoints"):
        checkpoint.load(out / name / "checkpoints" / f"step-{step:06d}")


def test_data_that_is_cut_off_ends_the_training_with_a_checkpoint(
    one, tmp_path, monkeypatch, capsys
):
    data, out = tmp_path / "train.bin", tmp_path / "run"
    tokens = (np.arange(40_000) % 256).astype("<u2").tobytes()
    data.write_bytes(tokens)
    log = FrameworkRun.log

    def cutting(run, row):
        log(run, row)
        if row.step == 2:
            os.truncate(data, 2000)

    monkeypatch.setattr(FrameworkRun, "log", cutting)
    asked = (*SMALL, "--framework", one, "--data", data, "--steps", 60, "--out", out)
    said = refused(capsys, *asked, "--checkpoint-every", 60)
    assert "train.bin has changed since it was opened, from 80000 to 2000 bytes" in said
    (step,) = checkpoint.steps(out / one / "checkpoints")
    assert step == rows_of(out, one)[-1]["step"] > 1
    assert f"--resume from step {step}" in said
    data.write_bytes(tokens)
    monkeypatch.undo()
    assert train("--framework", one, "--out", out, "--resume", "--stop-after", step + 1) == 0
