"""The run of a call that names no preset: its tokenizer, fine-tuning it, several processes."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from bench.harness.frameworks import installed
from bench.training import fine_tuning, run_folder, sample
from bench.training.config import RunSettings, resolve
from bench.training.sample import SampleOptions
from shared import tokenizer
from tests.helpers.runs import Run, assert_same_run, rows_of, train

# A few steps of the default's model: sixteen tokens at a time, four at once.
FEW = ["--steps", 4, "--length", 16, "--batch-size", 4, "--eval-batches", 2, "--device", "cpu"]


@pytest.fixture(scope="module")
def begun(framework, text, tmp_path_factory) -> Path:
    """Four steps of the default run on a text of our own."""
    pytest.importorskip("tokenizers")
    out = tmp_path_factory.mktemp("default") / "run"
    assert train("--framework", framework.name, "--data", text, *FEW, "--out", out) == 0
    return out


def test_the_default_run_has_pieces_of_words_as_tokens():
    config = resolve(RunSettings())
    assert (config.preset, config.tokenizer, config.model.vocab_size) == ("writer", "bpe", 2048)
    assert config == resolve(RunSettings(preset="writer"))


def test_settings_of_the_default_give_way_to_those_that_are_named():
    config = resolve(RunSettings(tokenizer="bytes", steps=7, learning_rate=1e-3))
    assert (config.tokenizer, config.steps) == ("bytes", 7)
    assert config.train.optimizer.learning_rate == 1e-3
    assert resolve(RunSettings(preset="tiny")).tokenizer == "bytes"


@pytest.mark.parametrize("data", ["markov", "markov:3", "{folder}/a.bin", "{folder}"])
def test_a_tokenizer_is_trained_on_text_alone(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(b"\0" * 64)
    tokens = resolve(RunSettings(data=data.format(folder=tmp_path)))
    assert (tokens.preset, tokens.tokenizer) == ("writer", "bytes")
    (tmp_path / "text").mkdir()
    assert resolve(RunSettings(data=str(tmp_path / "text"))).tokenizer == "bpe"


def test_without_the_library_of_tokens_the_default_says_what_to_do(one, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert train("--framework", one, "--out", "never") == 2
    said = capsys.readouterr().err
    assert "the bpe tokenizer needs tokenizers: run pip install tokenizers" in said
    assert "--tokenizer bytes" in said


@pytest.mark.slow("jax")
def test_a_short_default_run_writes_text_in_its_own_tokens(begun, framework):
    stored = tokenizer.from_json(run_folder.read_json(begun / run_folder.TOKENIZER))
    assert (stored.name, run_folder.stored(begun).tokenizer) == ("bpe", "bpe")
    options = SampleOptions(
        checkpoint=str(begun), framework=framework.name, prompt=("The", "A test"), tokens=5
    )
    first, second = sample.texts(options)
    assert first.startswith("The")
    assert second.startswith("A test")


@pytest.mark.slow("jax")
def test_fine_tuning_says_and_draws_the_losses_before_and_after(begun, framework, tmp_path, capsys):
    new = tmp_path / "new.txt"
    new.write_text("a text of few words, again and again\n" * 99, encoding="utf-8")
    out, name = tmp_path / "tuned", framework.name
    asked = ("--framework", name, "--init", begun, "--data", new, *FEW, "--learning-rate", 1e-2)
    assert train(*asked, "--out", out) == 0
    said = capsys.readouterr().out
    losses = json.loads((out / name / fine_tuning.FILE).read_text())
    assert losses["after"]["new text"] < losses["before"]["new text"]
    assert losses["after"]["old text"] != losses["before"]["old text"]
    # Nothing was trained before it was measured: the run it begins from ended at this loss.
    last = rows_of(begun, name)[-1]["val_loss"]
    assert losses["before"]["old text"] == pytest.approx(last, rel=1e-5)
    assert losses["after"]["new text"] == rows_of(out, name)[-1]["val_loss"]
    for text in ("new text", "old text"):
        before, after = (losses[moment][text] for moment in ("before", "after"))
        assert f"{text} {before:.4f} before, {after:.4f} after" in said
    assert (run_folder.stored(out).preset, run_folder.stored(out).tokenizer) == ("run", "bpe")
    assert (out / run_folder.PLOT).stat().st_size > 0


@pytest.mark.slow("jax")
def test_the_folder_for_tensorboard_is_said(begun, framework, tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    out = shutil.copytree(begun, tmp_path / "run")
    resume = ("--framework", framework.name, "--out", out, "--resume", "--steps", 5)
    assert train(*resume, "--tensorboard") == 0
    assert f"tensorboard --logdir {out}\n" in capsys.readouterr().out
    assert list((out / framework.name / "tensorboard").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["--data-parallel", "--sharded"])
def test_two_processes_train_the_default_as_one_does(framework, text, tmp_path, layout):
    pytest.importorskip("tokenizers")
    asked = ("--framework", framework.name, "--data", text, *FEW, "--dtype", "float64")
    assert train(*asked, "--out", tmp_path / "alone") == 0
    with Run(*asked, layout, 2, "--out", tmp_path / "pair") as run:
        run.ends(0)
    assert_same_run(tmp_path / "pair", tmp_path / "alone", framework.name, 4, relative=1e-9)
    tokens = [(tmp_path / out / run_folder.TOKENIZER).read_bytes() for out in ("pair", "alone")]
    assert tokens[0] == tokens[1]


@pytest.mark.slow
def test_a_default_run_is_made_longer_in_the_other_framework(begun, framework, tmp_path, capsys):
    other = {"torch": "jax", "jax": "torch"}[framework.name]
    if not installed(other):
        pytest.skip(f"{other} is not installed")
    out = shutil.copytree(begun, tmp_path / "run")
    assert train("--framework", other, "--out", out, "--resume", "--steps", 6) == 0
    assert "The run is of 6 steps now, and was of 4" in capsys.readouterr().out
    assert [row["step"] for row in rows_of(out, other)] == [5, 6]
