"""The setup of a run: wrong calls, bad data, and settings that a resumed run has not."""

import numpy as np
import pytest

from tests.helpers.runs import SMALL, refused, state, train


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
        ("--warmup 2000", "--warmup is 2000: expected from 0 to under --steps, which is 800"),
        ("--length 129", "length 129 is over the model's context_length 128"),
        ("--stop-after 5000", "--stop-after is 5000: expected 1 to --steps 800"),
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
        ("beyond.bin", np.full(4000, 300, "<u2").tobytes()),
        ("latin.txt", "caf\xe9 ".encode("latin-1") * 1000),
    ],
)
def test_bad_data_is_refused_in_one_sentence(one, capsys, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    said = refused(capsys, "--framework", one, "--data", tmp_path / name, "--out", tmp_path / "run")
    assert name in said or "window" in said
    assert not (tmp_path / "run").exists(), "something was left behind"


def test_resuming_with_other_settings_names_the_difference(begun, framework, capsys):
    resume = ("--framework", framework.name, "--out", begun, "--resume")
    assert "batch_size 2, asked 4" in refused(capsys, *resume, "--batch-size", 4)
    assert "--steps 8, asked 9" in refused(capsys, *resume, "--steps", 9)
    assert "drop_rate 0.1, asked 0.2" in refused(capsys, *resume, "--drop-rate", 0.2)


def test_fewer_steps_than_are_done_are_refused_in_terms_of_the_option(begun, framework, capsys):
    resume = ("--framework", framework.name, "--out", begun, "--resume")
    said = refused(capsys, *resume, "--steps", 2)
    assert "--steps is 2" in said
    assert "has done 4 already" in said
    assert "total_steps" not in said


def test_resuming_on_changed_data_is_refused(framework, text, tmp_path, capsys):
    own = tmp_path / "own.txt"
    own.write_text(text.read_text(encoding="utf-8"), encoding="utf-8")
    asked = (*SMALL, "--framework", framework.name, "--data", own, "--steps", 2, "--stop-after", 1)
    assert train(*asked, "--out", tmp_path / "run") == 0
    own.write_text(text.read_text(encoding="utf-8").replace("float64", "float63"), encoding="utf-8")
    resume = ("--framework", framework.name, "--out", tmp_path / "run", "--resume")
    assert "the data has changed since the run" in refused(capsys, *resume)


def test_fine_tuning_begins_from_another_run_and_its_tokenizer(both, text, tmp_path):
    asked = ["--framework", "torch", "--steps", "2", "--learning-rate", "1e-9"]
    assert train(*asked, *SMALL, "--data", text, "--init", both, "--out", tmp_path / "run") == 0
    before, after = state(both, "torch", 20).params, state(tmp_path / "run", "torch", 2).params
    assert all(np.allclose(before[key], after[key], atol=1e-7) for key in before)
