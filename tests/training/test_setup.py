"""The setup of a run: wrong calls, bad data, and settings that a resumed run has not."""

import json
import shutil

import numpy as np
import pytest

from bench.harness.frameworks import NAMES
from bench.training import fine_tuning, metrics, run_folder
from shared.schedule import learning_rate
from tests.helpers.runs import SMALL, refused, rows_of, state, train


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--framework keras", "unknown framework 'keras': choose from torch, jax, both"),
        ("--preset huge", "unknown preset 'huge'"),
        ("--steps 0", "steps is 0: expected a whole number, 1 or more"),
        ("--steps ten", "invalid int value: 'ten'"),
        ("--batch-size 3 --micro-batches 2", "batch_size 3 is not divisible by micro_batches 2"),
        ("--dropout shared", "unknown dropout 'shared': choose from matched, native"),
        ("--drop-rate 1.5", "drop_rate is 1.5"),
        ("--dtype float16", "unknown dtype 'float16'"),
        ("--dtype tf32", "tf32 needs a cuda device"),
        ("--learning-rate -1", "learning_rate"),
        ("--warmup 3000", "--warmup is 3000: expected from 0 to under --steps, which is 3000"),
        ("--length 129", "length 129 is over the model's context_length 128"),
        ("--stop-after 5000", "--stop-after is 5000: expected 1 to --steps 3000"),
        ("--seed -1", "seed is -1"),
        ("--tokenizer klingon", "unknown tokenizer 'klingon'"),
        ("--data nowhere.txt", "nowhere.txt"),
        ("--init nowhere", "nowhere does not exist"),
        ("--keep 0", "keep is 0: expected a whole number from 1"),
        ("--device tpu", "unknown device 'tpu'"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(one, capsys, tmp_path, arguments, said):
    given = arguments.split()
    if "--framework" not in given:
        given += ["--framework", one]
    assert said in refused(capsys, *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists(), "something was left behind"


def _llmc(magic: int, version: int, count: int, tokens: int) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, count
    return header.tobytes() + np.zeros(tokens, "<u2").tobytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("empty.bin", b""),
        ("odd.bin", b"\1\0\2"),
        ("truncated.bin", _llmc(20240520, 1, 5000, 4000)),
        ("version.bin", _llmc(20240520, 9, 4000, 4000)),
        ("short.txt", b"too short for one window"),
        ("beyond.bin", np.full(4000, 3000, "<u2").tobytes()),
        ("latin.txt", "caf\xe9 ".encode("latin-1") * 1000),
    ],
)
def test_bad_data_is_refused_in_one_sentence(one, capsys, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    said = refused(capsys, "--framework", one, "--data", tmp_path / name, "--out", tmp_path / "run")
    assert name in said or "window" in said
    assert not (tmp_path / "run").exists(), "something was left behind"


@pytest.mark.slow("jax")
def test_resuming_with_other_settings_names_the_difference(begun, framework, capsys):
    resume = ("--framework", framework.name, "--out", begun, "--resume")
    assert "batch_size 2, asked 4" in refused(capsys, *resume, "--batch-size", 4)
    said = refused(capsys, *resume, "--steps", 3)
    assert "--steps is 3" in said
    assert "has done 4 already" in said
    assert "total_steps" not in said
    assert "drop_rate 0.1, asked 0.2" in refused(capsys, *resume, "--drop-rate", 0.2)


@pytest.mark.attack("data")
def test_resuming_where_there_is_no_run_is_refused(one, text, capsys, tmp_path):
    asked = (*SMALL, "--framework", one, "--data", text, "--steps", 2, "--resume")
    assert "no checkpoint in" in refused(capsys, *asked, "--out", tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    assert "give its folder as --out DIR" in refused(capsys, *asked)
    assert train(*asked, "--begin", "--out", tmp_path / "wrong") == 0


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_resuming_without_a_checkpoint_keeps_the_metrics(begun, framework, capsys):
    shutil.rmtree(begun / framework.name / "checkpoints")
    path = begun / framework.name / metrics.FILE
    before = path.read_bytes()
    resume = ("--framework", framework.name, "--out", begun, "--resume")
    assert "no checkpoint in" in refused(capsys, *resume)
    assert path.read_bytes() == before
    assert train(*resume, "--begin", "--stop-after", 1) == 0
    assert [row["step"] for row in rows_of(begun, framework.name)] == [1]


@pytest.mark.slow
def test_a_run_made_longer_follows_the_longer_schedule_in_both_frameworks(both, tmp_path, capsys):
    for name in NAMES:
        out = shutil.copytree(both, tmp_path / name)
        asked = ("--framework", name, "--out", out, "--resume", "--steps", 24)
        assert train(*asked) == 0
        assert "The run is of 24 steps now, and was of 20" in capsys.readouterr().out
        assert "Nothing to do" not in capsys.readouterr().out
        optimizer = run_folder.stored(out).train.optimizer
        for row in rows_of(out, name)[20:]:
            assert row["lr"] == learning_rate(row["step"] - 1, optimizer)
        described = run_folder.read_json(out / run_folder.CONFIG)
        assert described["earlier_horizons"] == [{"steps": 20, "until_step": 20}]
    rows = [rows_of(tmp_path / name, name) for name in NAMES]
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-10, abs=0), one["step"]
    assert [row["step"] for row in rows[0]] == list(range(1, 25))


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_resuming_on_changed_data_is_refused(framework, text, tmp_path, capsys):
    own = tmp_path / "own.txt"
    own.write_text(text.read_text(encoding="utf-8"), encoding="utf-8")
    asked = (*SMALL, "--framework", framework.name, "--data", own, "--steps", 2, "--stop-after", 1)
    assert train(*asked, "--out", tmp_path / "run") == 0
    own.write_text(text.read_text(encoding="utf-8").replace("float64", "float63"), encoding="utf-8")
    resume = ("--framework", framework.name, "--out", tmp_path / "run", "--resume")
    assert "the data has changed since the run" in refused(capsys, *resume)


def test_fine_tuning_begins_from_another_run_and_its_tokenizer(both, text, tmp_path, capsys):
    asked = ["--framework", "torch", "--steps", "2", "--learning-rate", "1e-9"]
    assert train(*asked, *SMALL, "--data", text, "--init", both, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert f"Beginning from {both}" in said
    stored = json.loads((tmp_path / "run" / "torch" / fine_tuning.FILE).read_text())
    for moment in ("before", "after"):  # both texts are one here, and the rate is next to nothing
        assert stored[moment]["old text"] == pytest.approx(stored["before"]["new text"], rel=1e-3)
    assert f"new text {stored['before']['new text']:.4f} before" in said
    before, after = state(both, "torch", 20).params, state(tmp_path / "run", "torch", 2).params
    assert all(np.allclose(before[key], after[key], atol=1e-7) for key in before)
