"""Folders of checkpoints: the newest good one, pruning."""

import os
from pathlib import Path

import pytest

from shared.checkpoint import load, newest, prune, save, steps
from tests.helpers.checkpoints import (
    damage,
    make_checkpoint,
    names_in,
)

ROOT = Path(__file__).parents[2]


def test_the_newest_good_one_of_several_folders_is_found(tmp_path):
    torch, jax, absent = tmp_path / "torch", tmp_path / "jax", tmp_path / "absent"
    for step in (100, 200):
        save(torch, make_checkpoint(step))
    for step in (150, 200, 300):
        save(jax, make_checkpoint(step, framework="jax"))
    found, passed_over = newest([torch, jax, absent])
    assert (found.path, found.checkpoint.framework) == (jax / "step-000300", "jax")
    assert passed_over == []
    damage(jax / "step-000300")
    found, passed_over = newest([torch, jax, absent])  # of equal steps, the first folder's
    assert found.path == torch / "step-000200"
    assert len(passed_over) == 1
    assert passed_over[0].startswith(f"{jax / 'step-000300' / 'params.safetensors'} is damaged")
    damage(torch / "step-000200")
    found, passed_over = newest([torch, jax, absent])
    assert found.path == jax / "step-000200"
    assert len(passed_over) == 2
    for path in (jax / "step-000200", jax / "step-000150", torch / "step-000100"):
        damage(path)
    found, passed_over = newest([torch, jax, absent])
    assert found is None
    assert len(passed_over) == 5


def test_nothing_is_found_where_there_is_nothing(tmp_path):
    assert newest([]) == (None, [])
    assert newest([tmp_path, tmp_path / "absent"]) == (None, [])
    assert steps(tmp_path / "absent") == []
    assert prune(tmp_path / "absent", keep=1) == []


def test_a_folder_that_cannot_be_read_is_passed_over(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    save(tmp_path / "torch", make_checkpoint())
    found, passed_over = newest([tmp_path / "file", tmp_path / "torch"])
    assert found.checkpoint.step == 100
    assert len(passed_over) == 1
    with pytest.raises(ValueError, match=r"cannot read .*file: Not a directory"):
        steps(tmp_path / "file")


def test_only_the_names_of_checkpoints_are_looked_at(tmp_path):
    save(tmp_path, make_checkpoint())
    for name in ("step-200", "step-0000200", "step-000200.bak", "step-٠٠٠٢٠٠", "step--00200"):
        (tmp_path / name).mkdir()
    for kind in ("new", "gone"):
        (tmp_path / f".step-000300.{kind}.{os.getppid()}").mkdir()
    (tmp_path / "step-000400").write_bytes(b"")
    assert steps(tmp_path) == [100]
    found, passed_over = newest([tmp_path])
    assert (found.checkpoint.step, passed_over) == (100, [])


def test_pruning_keeps_the_newest(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, make_checkpoint(step))
    assert prune(tmp_path, keep=4) == []
    assert prune(tmp_path, keep=2) == [10, 20]
    assert names_in(tmp_path) == ["step-000030", "step-000040"]
    with pytest.raises(ValueError, match="keep is 0: expected 1 or more"):
        prune(tmp_path, keep=0)


def test_pruning_keeps_the_newest_good_one_though_it_is_older(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, make_checkpoint(step))
    damage(tmp_path / "step-000030")
    damage(tmp_path / "step-000040")
    assert prune(tmp_path, keep=1) == [10, 30]
    assert steps(tmp_path) == [20, 40]
    found, _ = newest([tmp_path])
    assert found.checkpoint.step == 20


def test_pruning_that_fails_says_which_and_keeps_all(tmp_path, monkeypatch):
    for step in (10, 20):
        save(tmp_path, make_checkpoint(step))

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(ValueError, match=r"cannot delete .*10: Permission denied: check"):
        prune(tmp_path, keep=1)
    assert names_in(tmp_path) == ["step-000010", "step-000020"]


def test_pruning_deletes_a_link_and_not_its_target(tmp_path):
    elsewhere = save(tmp_path / "elsewhere", make_checkpoint(10))
    folder = tmp_path / "checkpoints"
    save(folder, make_checkpoint(20))
    (folder / "step-000010").symlink_to(elsewhere)
    assert steps(folder) == [10, 20]
    assert prune(folder, keep=1) == [10]
    assert names_in(folder) == ["step-000020"]
    load(elsewhere)


def test_what_the_system_refuses_to_delete_is_left_and_the_checkpoint_is_there(
    tmp_path, monkeypatch
):
    """The next sweep deletes it."""
    path = save(tmp_path, make_checkpoint(100))
    damage(path)
    rename = os.rename

    def refusing(source, target):
        if ".gone." in str(target):
            raise PermissionError("not now")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refusing)
        save(tmp_path, make_checkpoint(100))
    assert load(path).step == 100
    assert len(os.listdir(tmp_path)) == 2
    save(tmp_path, make_checkpoint(200))
    assert sorted(os.listdir(tmp_path)) == ["step-000100", "step-000200"]


def test_a_link_that_cannot_be_deleted_is_no_checkpoint_any_more(tmp_path, monkeypatch):
    elsewhere = save(tmp_path / "elsewhere", make_checkpoint(100))
    folder = tmp_path / "run"
    save(folder, make_checkpoint(200))
    (folder / "step-000100").symlink_to(elsewhere)

    def refuse(self, missing_ok=False):
        raise PermissionError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        prune(folder, 1)
    assert steps(folder) == [200]
    assert load(elsewhere).step == 100
