"""The run folder: what it holds, and what is refused of it when a run is resumed."""

import json
import math
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bench.harness.frameworks import NAMES
from bench.training import run_folder
from bench.training.config import RunSettings, resolve
from shared import checkpoint, corpus
from tests.helpers.runs import SMALL, refused, rows_of, state, train


def test_the_run_folder_holds_what_it_promises(both):
    for name in NAMES:
        assert checkpoint.steps(both / name / "checkpoints") == [10, 20]
        rows = rows_of(both, name)
        assert [row["step"] for row in rows] == list(range(1, 21))
        for row in rows:
            assert {"loss", "grad_norm", "lr", "tokens_per_s"} <= row.keys()
            assert all(math.isfinite(value) for value in row.values())
        assert "val_loss" in rows[-1]
        assert list((both / name / "tensorboard").iterdir())
    assert (both / run_folder.PLOT).read_bytes().startswith(b"\x89PNG")
    config = json.loads((both / run_folder.CONFIG).read_text())
    assert config["run"]["train"]["optimizer"]["total_steps"] == 20
    assert config["corpus"]["sha256"]


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_a_folder_that_holds_a_run_is_not_overwritten(begun, framework, text, capsys):
    before = (begun / run_folder.CONFIG).read_bytes()
    said = refused(capsys, "--framework", framework.name, "--data", text, "--out", begun)
    assert "holds a run already: --resume it, or choose another --out" in said
    assert (begun / run_folder.CONFIG).read_bytes() == before


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 4
    path.write_bytes(content if how == "flip" else content[: len(content) // 2])


@pytest.mark.slow("jax-*", "torch-truncate")
@pytest.mark.parametrize("how", ["flip", "truncate"])
@pytest.mark.attack("data")
def test_a_damaged_checkpoint_is_passed_over_and_said(begun, framework, capsys, how):
    folder = begun / framework.name / "checkpoints"
    _damage(folder / "step-000004" / "first_moment.safetensors", how)
    assert train("--framework", framework.name, "--out", begun, "--resume") == 0
    said = capsys.readouterr().out
    assert "Passed over" in said
    assert "first_moment.safetensors" in said
    assert "step-000002" in said
    assert [row["step"] for row in rows_of(begun, framework.name)] == list(range(1, 9))


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_no_whole_checkpoint_left_is_an_error(begun, framework, capsys):
    for step in (2, 4):
        _damage(
            begun / framework.name / "checkpoints" / f"step-00000{step}" / "state.json", "truncate"
        )
    said = refused(capsys, "--framework", framework.name, "--out", begun, "--resume")
    assert "no checkpoint in" in said


@pytest.mark.slow("jax")
def test_a_checkpoint_of_another_configuration_is_refused(begun, framework, capsys):
    path = begun / run_folder.CONFIG
    path.write_text(path.read_text().replace('"n_layers": 2', '"n_layers": 3'))
    said = refused(capsys, "--framework", framework.name, "--out", begun, "--resume")
    assert "n_layers 2, asked 3" in said


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_a_damaged_configuration_is_refused(begun, framework, capsys):
    (begun / run_folder.CONFIG).write_text("{")
    said = refused(capsys, "--framework", framework.name, "--out", begun, "--resume")
    assert "config.json is not readable JSON" in said


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("data", None, "data is None"),
        ("data", ["text"], r"data is \['text'\]"),
        ("init", {}, r"init is \{\}"),
        ("keep", True, "keep is True"),
        ("token_count", "many", "token_count is 'many'"),
        ("train", {"optimizer": 3}, "does not describe a run"),
        ("model", [], "does not describe a run"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_changed_configuration_is_refused_by_the_field(tmp_path, field, value, named):
    described = {"run": asdict(resolve(RunSettings(length=8))) | {field: value}}
    (tmp_path / run_folder.CONFIG).write_text(json.dumps(described))
    with pytest.raises(ValueError, match=named):
        run_folder.stored(tmp_path)


@pytest.mark.parametrize("content", ["[" * 100_000, "{}"[:1], '{"run": 1' + "0" * 5000 + "}", "[]"])
def test_a_file_without_configuration_is_refused_by_its_path(tmp_path, content):
    (tmp_path / run_folder.CONFIG).write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is not"):
        run_folder.stored(tmp_path)


def test_data_that_a_run_does_not_name_is_refused(tmp_path):
    (tmp_path / run_folder.CONFIG).write_text('{"corpus": []}')
    text = corpus.Corpus(train=np.zeros(9), validation=np.zeros(9), description={})
    with pytest.raises(ValueError, match="does not say what data"):
        run_folder.check_data(tmp_path, text)


@pytest.mark.attack("data")
def test_an_unwritable_run_folder_is_refused(one, text, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refused(
        capsys, *SMALL, "--framework", one, "--data", text, "--out", tmp_path / "file" / "run"
    )
    assert "cannot write" in said or "is a file" in said


@pytest.mark.slow("jax")
@pytest.mark.attack("data")
def test_a_full_disk_ends_the_run_and_loses_nothing(framework, text, tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3800k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        asked = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 8, "--keep", 8)
        out = small / "run"
        said = refused(capsys, *asked, "--checkpoint-every", 1, "--out", out)
        assert "No space left on device" in said
        kept = checkpoint.steps(out / framework.name / "checkpoints")
        assert kept, "there was room for one"
        assert all(state(out, framework.name, step).step == step for step in kept)
        assert not list((out / framework.name / "checkpoints").glob(".*")), (
            "half a checkpoint is left"
        )
        assert rows_of(out, framework.name)[-1]["step"] >= kept[-1]
    finally:
        subprocess.run(["umount", str(small)], check=True)
