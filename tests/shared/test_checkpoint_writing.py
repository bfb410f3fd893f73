"""Checkpoints written whole or not at all, also on a full disk.

The test of a full disk needs the right to mount.
"""

import json
import os
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared.checkpoint import load, save, save_each, steps
from shared.config import GPTConfig
from shared.params import gpt2_shapes
from tests.helpers.checkpoints import (
    FILES,
    GROUPS,
    TINY,
    assert_same,
    draw_tensors,
    make_checkpoint,
    names_in,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, dtype, tied):
    given = make_checkpoint(dtype=dtype, config=replace(TINY, tie_embeddings=tied))
    limits = np.finfo(dtype)
    given.params["ln_f.bias"][:4] = -0.0, limits.smallest_subnormal, limits.max, limits.min
    path = save(tmp_path / "new" / "checkpoints", given)
    assert path == tmp_path / "new" / "checkpoints" / "step-000100"
    assert names_in(path) == sorted(FILES)
    assert names_in(path.parent) == ["step-000100"]
    assert_same(load(path), given)


@pytest.mark.parametrize("order", [np.asfortranarray, lambda value: np.stack([value, value], -1)])
def test_any_strides_and_byte_order_are_saved_by_value(tmp_path, order):
    given = make_checkpoint()
    views = {name: order(value) for name, value in given.params.items()}
    views = {n: v[..., 0] if v.ndim > given.params[n].ndim else v for n, v in views.items()}
    swapped = {name: value.astype(">f4") for name, value in given.first_moment.items()}
    turned = dict(reversed(views.items()))
    path = save(tmp_path, replace(given, params=turned, first_moment=swapped))
    assert_same(load(path), given)


def test_any_safetensors_reader_finds_the_canonical_names_and_mixed_widths(tmp_path):
    given = make_checkpoint(config=replace(TINY, emb_dim=1, n_heads=1))
    for name in list(given.params)[1::3]:
        given.params[name] = given.params[name].astype("float64")
    path = save(tmp_path, given)
    found = load_file(path / "params.safetensors")
    assert set(found) == set(gpt2_shapes(given.model))
    for name, value in given.params.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].tobytes() == value.tobytes(), name
    assert_same(load(path), given)
    content = (path / "params.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, value in given.params.items():  # a reader that maps the file needs each aligned
        start = json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
        assert start % value.itemsize == 0, name


def test_saving_copies_one_tensor_at_a_time(tmp_path):
    config = GPTConfig(vocab_size=256, context_length=64, emb_dim=64, n_heads=4, n_layers=6)
    given = make_checkpoint(config=config)
    views = {n: np.asfortranarray(v) for n, v in given.params.items()}
    given = replace(given, params=views)
    tracemalloc.start()
    try:
        save(tmp_path, given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one_group = sum(value.nbytes for value in given.params.values())
    assert peak < one_group / 4


def _each(given):
    """Tensors one at a time, as a trainer that has none of them whole hands them out."""
    for group in GROUPS:
        for name in gpt2_shapes(given.model):
            yield group, name, getattr(given, group)[name].copy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_writing_tensor_by_tensor_gives_the_same_bytes(tmp_path, dtype):
    given = make_checkpoint(dtype=dtype)
    whole = save(tmp_path / "whole", given)
    path = save_each(tmp_path / "each", given, _each(given))
    for file in FILES:
        assert (path / file).read_bytes() == (whole / file).read_bytes(), file
    assert_same(load(path), given)


def test_writing_and_reading_tensor_by_tensor_never_holds_the_whole(tmp_path):
    given = make_checkpoint(config=replace(TINY, n_layers=40, emb_dim=32, n_heads=4))
    whole = sum(value.nbytes for group in GROUPS for value in getattr(given, group).values())
    tracemalloc.start()
    try:
        path = save_each(tmp_path, given, _each(given))
        for group, name, value in _each(given):
            assert np.array_equal(getattr(load(path), group)[name], value)
            break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < whole / 8


def _with_nan(group, name, value):
    return group, name, value * np.nan if name == "ln_f.bias" else value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_with_nan, r"params has NaN or infinity in 'ln_f\.bias' at step 100"),
        (lambda g, n, v: (g, n, v.astype("int32")), r"params has 'wte\.weight' as int32"),
        (lambda g, n, v: (g, n, v[:-1]), r"params: tensor 'wte\.weight' has shape"),
        (lambda g, n, v: ("gradients", n, v), r"gradients 'wte\.weight' came where params"),
        (
            lambda g, n, v: (g, n, v.astype("float64" if n == "ln_f.bias" else v.dtype)),
            r"params has 'ln_f\.bias' as float64: expected float32 as before",
        ),
    ],
)
def test_a_wrong_tensor_among_those_that_come_leaves_nothing_behind(tmp_path, spoil, message):
    save(tmp_path, make_checkpoint(50))
    given = make_checkpoint()
    with pytest.raises(ValueError, match=message):
        save_each(tmp_path, given, (spoil(*tensor) for tensor in _each(given)))
    assert names_in(tmp_path) == ["step-000050"]


def test_tensors_that_end_early_leave_nothing_behind(tmp_path):
    given = make_checkpoint()
    some = list(_each(given))[:-1]
    with pytest.raises(ValueError, match=r"second_moment 'ln_f\.bias' was expected"):
        save_each(tmp_path, given, some)
    assert names_in(tmp_path) == []


def test_steps_beyond_six_digits_have_their_name(tmp_path):
    for step in (0, 999_999, 1_000_000):
        save(tmp_path, make_checkpoint(step))
    assert names_in(tmp_path) == ["step-000000", "step-1000000", "step-999999"]
    assert steps(tmp_path) == [0, 999_999, 1_000_000]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32"])
def test_tensors_of_another_dtype_are_refused(tmp_path, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="NumPy alone has no bfloat16").bfloat16
    given = make_checkpoint()
    given.params["wpe.weight"] = given.params["wpe.weight"].astype(dtype)
    message = rf"params has 'wpe\.weight' as {np.dtype(dtype)}: .* float32 or float64"
    with pytest.raises(ValueError, match=message):
        save(tmp_path, given)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_diverged_training_is_not_saved(tmp_path, group, value):
    given = make_checkpoint()
    getattr(given, group)["h.1.mlp.c_fc.bias"][3] = value
    message = rf"{group} has NaN or infinity in 'h\.1\.mlp\.c_fc\.bias' at step 100: .*earlier"
    with pytest.raises(ValueError, match=message):
        save(tmp_path, given)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("group", GROUPS)
def test_tensors_that_the_configuration_has_not_are_not_saved(tmp_path, group):
    deeper = {group: draw_tensors(0, replace(TINY, n_layers=3))}
    with pytest.raises(ValueError, match=rf"{group}: unknown tensor 'h\.2\.ln_1\.weight'"):
        save(tmp_path, make_checkpoint(**deeper))
    wider = {group: draw_tensors(0, replace(TINY, emb_dim=16))}
    with pytest.raises(ValueError, match=rf"{group}: tensor 'wte\.weight' has shape \(13, 16\)"):
        save(tmp_path, make_checkpoint(**wider))
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "checkpoints"):
        with pytest.raises(ValueError, match=r"cannot write .*step-000100: .*: free space or ch"):
            save(folder, make_checkpoint())
    (tmp_path / "step-000100").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"cannot write .*step-000100: Not a directory"):
        save(tmp_path, make_checkpoint())
    assert (tmp_path / "step-000100").read_bytes() == b"mine"
    assert names_in(tmp_path) == ["file", "step-000100"]


FLUSHES = len(FILES) + 2  # the folder, and the one around it


@pytest.mark.parametrize(
    ("exists", "call", "nth"),
    [
        *((exists, "fsync", n + 1) for exists in (True, False) for n in range(FLUSHES)),
        (False, "rename", 1),
        (True, "rename", 1),
        (True, "rename", 2),
    ],
)
def test_a_write_that_fails_loses_nothing_and_leaves_nothing(
    tmp_path, monkeypatch, exists, call, nth
):
    former = make_checkpoint(step=100 if exists else 50, framework="jax")
    path = save(tmp_path, former)
    real, calls = getattr(os, call), []

    def fails_once(*given):
        calls.append(given)
        if len(calls) == nth:
            raise OSError(28, "No space left on device")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails_once)
        assert _failure(tmp_path, make_checkpoint()) == FULL.format(tmp_path)
    assert_same(load(path), former)
    assert names_in(tmp_path) == [path.name]


FULL = "cannot write {}/step-000100: No space left on device: free space or choose another folder"


def _failure(folder, given):
    """The sentence with which saving ``given`` fails, if it does."""
    try:
        save(folder, given)
    except ValueError as error:
        return str(error)
    return None


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "twingrad-test", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_former_checkpoint(small_disk):
    former = make_checkpoint(50)
    save(small_disk, former)
    page = os.statvfs(small_disk).f_bsize
    failed = 0
    for pages in range(100):
        room = os.statvfs(small_disk).f_bavail * page
        (small_disk / "ballast").write_bytes(bytes(room - pages * page))
        failure = _failure(small_disk, make_checkpoint(100))
        (small_disk / "ballast").unlink()
        assert_same(load(small_disk / "step-000050"), former)
        if failure is None:
            break
        failed += 1
        assert failure == FULL.format(small_disk), pages
        assert names_in(small_disk) == ["step-000050"], pages
    assert failed > 5
    assert_same(load(small_disk / "step-000100"), make_checkpoint(100))
