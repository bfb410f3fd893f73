"""Checkpoints: whole or absent, whatever happens to the process, the disk or the bytes.

Run with ``pytest tests/test_checkpoint.py``; the test of a full disk needs the right to mount.
"""

import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared import checkpoint
from shared.checkpoint import Checkpoint, load, newest, prune, save, save_each, steps
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.params import gpt2_shapes

ROOT = Path(__file__).parents[2]
TINY = GPTConfig(vocab_size=13, context_length=7, emb_dim=8, n_heads=2, n_layers=2, qkv_bias=True)
TRAIN = TrainConfig(optimizer=AdamWConfig(learning_rate=1e-3, total_steps=300), seed=5)
GROUPS = ("params", "first_moment", "second_moment")
TENSOR_FILES = tuple(f"{group}.safetensors" for group in GROUPS)
FILES = (*TENSOR_FILES, "state.json")


def _tensors(seed, config=TINY, dtype="float32"):
    """Tensors whose every digit is in use in ``dtype``."""
    drawn = np.random.default_rng(seed)
    shapes = gpt2_shapes(config)
    return {name: drawn.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def _checkpoint(step=100, dtype="float32", config=TINY, **changes):
    given = {group: _tensors(i, config, dtype) for i, group in enumerate(GROUPS)}
    given |= {
        "step": step,
        "model": config,
        "train": TRAIN,
        "framework": "torch",
        "data": {"epoch": 1, "position": 2**40, "shards": ["a", "b"]},
        "tokenizer": {"kind": "bytes", "special": {"<|endoftext|>": None}},
        "random": {"generator": "threefry2x32", "seed": 0, "step": step, "dropout": "matched"},
        "extra": {"best": 0.1 + 0.2, "note": "größer\n\ud800", "done": False},
    }
    return Checkpoint(**given | changes)


def _assert_same(ours, theirs):
    for field in fields(theirs):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name not in GROUPS:
            assert left == right, field.name
            continue
        assert list(left) == list(gpt2_shapes(theirs.model)), field.name
        for name in left:
            assert left[name].dtype == right[name].dtype, (field.name, name)
            assert left[name].shape == right[name].shape, (field.name, name)
            assert left[name].tobytes() == right[name].tobytes(), (field.name, name)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _damage(path):
    """Change one byte in the middle of ``path / 'params.safetensors'``."""
    file = path / "params.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def _forge(path, **changes):
    """Rewrite fields of ``state.json`` under a digest that is right; ``None`` leaves one out."""
    state = json.loads((path / "state.json").read_text())
    del state["sha256"]
    state = {name: value for name, value in (state | changes).items() if value is not None}
    (path / "state.json").write_bytes(checkpoint._sealed(state))


# What is saved


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, dtype, tied):
    given = _checkpoint(dtype=dtype, config=replace(TINY, tie_embeddings=tied))
    limits = np.finfo(dtype)
    given.params["ln_f.bias"][:4] = -0.0, limits.smallest_subnormal, limits.max, limits.min
    path = save(tmp_path / "new" / "checkpoints", given)
    assert path == tmp_path / "new" / "checkpoints" / "step-000100"
    assert _names(path) == sorted(FILES)
    assert _names(path.parent) == ["step-000100"]
    _assert_same(load(path), given)


@pytest.mark.parametrize("order", [np.asfortranarray, lambda value: np.stack([value, value], -1)])
def test_views_of_any_strides_and_either_byte_order_are_saved_by_value(tmp_path, order):
    given = _checkpoint()
    views = {name: order(value) for name, value in given.params.items()}
    views = {n: v[..., 0] if v.ndim > given.params[n].ndim else v for n, v in views.items()}
    swapped = {name: value.astype(">f4") for name, value in given.first_moment.items()}
    turned = dict(reversed(views.items()))
    path = save(tmp_path, replace(given, params=turned, first_moment=swapped))
    _assert_same(load(path), given)


def test_any_safetensors_reader_finds_the_canonical_names_and_mixed_widths(tmp_path):
    given = _checkpoint(config=replace(TINY, emb_dim=1, n_heads=1))
    for name in list(given.params)[1::3]:
        given.params[name] = given.params[name].astype("float64")
    path = save(tmp_path, given)
    found = load_file(path / "params.safetensors")
    assert set(found) == set(gpt2_shapes(given.model))
    for name, value in given.params.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].tobytes() == value.tobytes(), name
    _assert_same(load(path), given)
    content = (path / "params.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, value in given.params.items():  # a reader that maps the file needs each aligned
        start = json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
        assert start % value.itemsize == 0, name


def test_saving_copies_one_tensor_at_a_time(tmp_path):
    config = GPTConfig(vocab_size=256, context_length=64, emb_dim=64, n_heads=4, n_layers=6)
    given = _checkpoint(config=config)
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
def test_a_checkpoint_written_tensor_by_tensor_is_the_same_to_the_byte(tmp_path, dtype):
    given = _checkpoint(dtype=dtype)
    whole = save(tmp_path / "whole", given)
    path = save_each(tmp_path / "each", given, _each(given))
    for file in FILES:
        assert (path / file).read_bytes() == (whole / file).read_bytes(), file
    _assert_same(load(path), given)


def test_writing_and_reading_tensor_by_tensor_never_holds_the_whole(tmp_path):
    given = _checkpoint(config=replace(TINY, n_layers=40, emb_dim=32, n_heads=4))
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


def test_an_older_checkpoint_was_written_by_one_process(tmp_path):
    path = save(tmp_path, _checkpoint())
    train = asdict(TRAIN)
    del train["data_parallel"], train["sharded"]
    _forge(path, train=train)
    assert load(path).train == TRAIN


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
    save(tmp_path, _checkpoint(50))
    given = _checkpoint()
    with pytest.raises(ValueError, match=message):
        save_each(tmp_path, given, (spoil(*tensor) for tensor in _each(given)))
    assert _names(tmp_path) == ["step-000050"]


def test_tensors_that_end_early_leave_nothing_behind(tmp_path):
    given = _checkpoint()
    some = list(_each(given))[:-1]
    with pytest.raises(ValueError, match=r"second_moment 'ln_f\.bias' was expected"):
        save_each(tmp_path, given, some)
    assert _names(tmp_path) == []


def test_steps_beyond_six_digits_have_their_name(tmp_path):
    for step in (0, 999_999, 1_000_000):
        save(tmp_path, _checkpoint(step))
    assert _names(tmp_path) == ["step-000000", "step-1000000", "step-999999"]
    assert steps(tmp_path) == [0, 999_999, 1_000_000]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32"])
def test_tensors_of_another_dtype_are_refused(tmp_path, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="NumPy alone has no bfloat16").bfloat16
    given = _checkpoint()
    given.params["wpe.weight"] = given.params["wpe.weight"].astype(dtype)
    message = rf"params has 'wpe\.weight' as {np.dtype(dtype)}: .* float32 or float64"
    with pytest.raises(ValueError, match=message):
        save(tmp_path, given)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_diverged_training_is_not_saved(tmp_path, group, value):
    given = _checkpoint()
    getattr(given, group)["h.1.mlp.c_fc.bias"][3] = value
    message = rf"{group} has NaN or infinity in 'h\.1\.mlp\.c_fc\.bias' at step 100: .*earlier"
    with pytest.raises(ValueError, match=message):
        save(tmp_path, given)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("group", GROUPS)
def test_tensors_that_the_configuration_has_not_are_not_saved(tmp_path, group):
    deeper = {group: _tensors(0, replace(TINY, n_layers=3))}
    with pytest.raises(ValueError, match=rf"{group}: unknown tensor 'h\.2\.ln_1\.weight'"):
        save(tmp_path, _checkpoint(**deeper))
    wider = {group: _tensors(0, replace(TINY, emb_dim=16))}
    with pytest.raises(ValueError, match=rf"{group}: tensor 'wte\.weight' has shape \(13, 16\)"):
        save(tmp_path, _checkpoint(**wider))
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": -1}, "step is -1: expected a whole number"),
        ({"step": 1.5}, "step is 1.5: expected a whole number"),
        ({"step": True}, "step is True: expected a whole number"),
        ({"framework": ""}, "framework is '': expected torch or jax"),
        ({"data": [1]}, r"data is \[1\], which JSON does not give back"),
        ({"data": {"at": np.int64(1)}}, "data is .*int64.*, which JSON does not give back"),
        ({"tokenizer": {1: "a"}}, "tokenizer is {1: 'a'}, which JSON does not give back"),
        ({"random": {"key": (0, 1)}}, r"random is .*\(0, 1\)}, which JSON does not give back"),
        ({"extra": {"loss": float("nan")}}, "extra is {'loss': nan}, which JSON does not"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_json_would_change_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _checkpoint(**changes)


# Damage


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_found_and_its_file_named(tmp_path, name):
    path = save(tmp_path, _checkpoint())
    content = (path / name).read_bytes()
    drawn = random.Random(name)
    for _ in range(50):
        at, bit = drawn.randrange(len(content)), drawn.randrange(8)
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        (path / name).write_bytes(flipped)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
            load(path)
        assert "\n" not in str(error.value), (at, bit)
    (path / name).write_bytes(content)
    load(path)


def test_a_changed_case_anywhere_in_the_state_is_found(tmp_path):
    # `1e-05` and `1E-05` are one number, `a0` and `A0` one digest, a single bit apart.
    path = save(tmp_path, _checkpoint())
    content = (path / "state.json").read_bytes()
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 0x20
        (path / "state.json").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"state\.json"):
            load(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_or_too_long_or_absent_is_named(tmp_path, name):
    path = save(tmp_path, _checkpoint())
    content = (path / name).read_bytes()
    for size in (0, 1, 7, len(content) // 2, len(content) - 1, len(content) + 1):
        (path / name).write_bytes((content + b" ")[:size])
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            load(path)
    (path / name).unlink()
    with pytest.raises(ValueError, match=name.replace(".", r"\.") + " does not exist"):
        load(path)
    (path / name).mkdir()
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        load(path)


def test_files_exchanged_for_one_another_are_found(tmp_path):
    path = save(tmp_path, _checkpoint())
    first, second = path / "first_moment.safetensors", path / "second_moment.safetensors"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(ValueError, match=r"first_moment\.safetensors (is damaged|has \d+ bytes)"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not readable JSON"),
        (b"{", "is not readable JSON"),
        (b"\x80", "is not readable JSON"),
        (b"[" * 100_000, "is not readable JSON"),
        (b"[]", "is not the state of a twingrad checkpoint"),
        (b"null", "is not the state of a twingrad checkpoint"),
        (b'{"format": "other"}', "is not the state of a twingrad checkpoint"),
        (b'{"format": "twingrad checkpoint"}', "is of format version None"),
        (b'{"format": "twingrad checkpoint", "version": 2}', "is of format version 2: .*version 1"),
        (b'{"format": "twingrad checkpoint", "version": 1}', "is damaged, its sha256 differs"),
    ],
)
def test_a_state_that_is_none_is_refused(tmp_path, content, message):
    path = save(tmp_path, _checkpoint())
    (path / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"state\.json {message}"):
        load(path)


@pytest.mark.parametrize(
    "name",
    ["step", "framework", "model", "train", "data", "tokenizer", "random", "extra", "files"],
)
def test_a_state_that_lacks_a_field_or_has_another_type_in_it_is_refused(tmp_path, name):
    path = save(tmp_path, _checkpoint())
    _forge(path, **{name: None})
    with pytest.raises(ValueError, match=rf"state\.json has no '{name}'"):
        load(path)
    _forge(path, **{name: True})
    with pytest.raises(ValueError, match=rf"state\.json has {name} True: expected (int|str|dict)"):
        load(path)


MODEL, SCHEDULE = asdict(TINY), asdict(TRAIN)
LACKING = {name: value for name, value in MODEL.items() if name != "qkv_bias"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": MODEL | {"n_layers": 0}}, "wrong GPTConfig: n_layers is 0: expected"),
        ({"model": MODEL | {"n_heads": 3}}, "wrong GPTConfig: emb_dim 8 is not divisible"),
        ({"model": MODEL | {"experts": 8}}, "has 'experts' in its GPTConfig"),
        ({"model": LACKING}, "has no 'qkv_bias' in its GPTConfig"),
        ({"train": SCHEDULE | {"dtype": "int8"}}, "wrong TrainConfig: unknown dtype 'int8'"),
        ({"train": SCHEDULE | {"optimizer": 7}}, "has optimizer 7: expected an object"),
        ({"train": SCHEDULE | {"optimizer": {}}}, "has no 'learning_rate' in its AdamWConfig"),
        (
            {"train": SCHEDULE | {"optimizer": SCHEDULE["optimizer"] | {"epsilon": 0}}},
            "wrong AdamWConfig: epsilon is 0: expected over 0",
        ),
        (
            {"train": SCHEDULE | {"optimizer": SCHEDULE["optimizer"] | {"beta1": "high"}}},
            "wrong AdamWConfig: .*finite number",
        ),
        ({"step": -100}, "holds step -100"),
        ({"step": 200}, "step-000100 holds step 200: give it the name of its own step"),
        ({"framework": ""}, "framework is '': expected torch or jax"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_value_in_the_state_is_refused_by_its_field(tmp_path, changes, message):
    path = save(tmp_path, _checkpoint())
    _forge(path, **changes)
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(TINY, n_layers=3), r"params\.safetensors: tensor 'h\.2\.ln_1\.weight' is missing"),
        (replace(TINY, n_layers=1), r"params\.safetensors: unknown tensor 'h\.1\."),
        (replace(TINY, vocab_size=14), r"'wte\.weight' has shape \(13, 8\): expected \(14, 8\)"),
        (replace(TINY, tie_embeddings=False), r"tensor 'lm_head\.weight' is missing"),
    ],
)
def test_tensors_of_another_configuration_are_refused(tmp_path, model, message):
    path = save(tmp_path, _checkpoint())
    _forge(path, model=asdict(model))
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "in/params.safetensors"])
def test_a_name_in_the_state_is_never_followed(tmp_path, name):
    path = save(tmp_path / "checkpoints", _checkpoint())
    outside = tmp_path / "checkpoints" / "outside.safetensors"
    outside.write_bytes((path / "params.safetensors").read_bytes())
    files = json.loads((path / "state.json").read_text())["files"]
    for forged in (
        {name if key == "params.safetensors" else key: value for key, value in files.items()},
        files | {name: files["params.safetensors"]},
    ):
        _forge(path, files=forged)
        with pytest.raises(ValueError, match=f"names the files .*{name}.*: expected params"):
            load(path)


@pytest.mark.parametrize("entry", [None, 7, {}, {"bytes": None}, {"bytes": "all"}])
def test_a_file_without_its_size_or_digest_is_not_taken(tmp_path, entry):
    path = save(tmp_path, _checkpoint())
    files = json.loads((path / "state.json").read_text())["files"]
    _forge(path, files=files | {"params.safetensors": entry})
    with pytest.raises(ValueError, match=r"params\.safetensors has \d+ bytes, expected"):
        load(path)
    size = {"bytes": files["params.safetensors"]["bytes"]}
    _forge(path, files=files | {"params.safetensors": size})
    with pytest.raises(ValueError, match=r"params\.safetensors is damaged, its sha256 differs"):
        load(path)


def test_a_path_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"state\.json does not exist: give a checkpoint"):
            load(path)


# Writes that fail


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "checkpoints"):
        with pytest.raises(ValueError, match=r"cannot write .*step-000100: .*: free space or ch"):
            save(folder, _checkpoint())
    (tmp_path / "step-000100").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"cannot write .*step-000100: Not a directory"):
        save(tmp_path, _checkpoint())
    assert (tmp_path / "step-000100").read_bytes() == b"mine"
    assert _names(tmp_path) == ["file", "step-000100"]


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
    former = _checkpoint(step=100 if exists else 50, framework="jax")
    path = save(tmp_path, former)
    real, calls = getattr(os, call), []

    def fails_once(*given):
        calls.append(given)
        if len(calls) == nth:
            raise OSError(28, "No space left on device")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails_once)
        assert _failure(tmp_path, _checkpoint()) == FULL.format(tmp_path)
    _assert_same(load(path), former)
    assert _names(tmp_path) == [path.name]


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


def test_a_disk_that_is_full_at_any_page_keeps_the_former_checkpoint(small_disk):
    former = _checkpoint(50)
    save(small_disk, former)
    page = os.statvfs(small_disk).f_bsize
    failed = 0
    for pages in range(100):
        room = os.statvfs(small_disk).f_bavail * page
        (small_disk / "ballast").write_bytes(bytes(room - pages * page))
        failure = _failure(small_disk, _checkpoint(100))
        (small_disk / "ballast").unlink()
        _assert_same(load(small_disk / "step-000050"), former)
        if failure is None:
            break
        failed += 1
        assert failure == FULL.format(small_disk), pages
        assert _names(small_disk) == ["step-000050"], pages
    assert failed > 5
    _assert_same(load(small_disk / "step-000100"), _checkpoint(100))


# The same step again


def test_an_identical_good_checkpoint_is_kept(tmp_path):
    path = save(tmp_path, _checkpoint())
    before = path.stat().st_ino
    save(tmp_path, _checkpoint())
    assert path.stat().st_ino == before
    assert _names(tmp_path) == ["step-000100"]


@pytest.mark.parametrize("damaged", [True, False])
def test_another_or_a_damaged_checkpoint_of_the_step_is_replaced(tmp_path, damaged):
    path = save(tmp_path, _checkpoint())
    if damaged:
        _damage(path)
    given = _checkpoint() if damaged else _checkpoint(extra={"again": True})
    assert save(tmp_path, given) == path
    _assert_same(load(path), given)
    assert _names(tmp_path) == ["step-000100"]


# Killed processes


def _dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_are_cleared_and_those_of_living_ones_are_not(tmp_path):
    dead, living = _dead_process(), os.getppid()
    (tmp_path / "file").write_bytes(b"")
    others = ["file", ".step-000007.new", f".step-7x.new.{dead}", f".mine.new.{dead}", ".cache"]
    for name in others[1:]:
        (tmp_path / name).mkdir()
    for pid in (dead, os.getpid(), 10**30, living):
        for kind in ("new", "gone"):
            folder = tmp_path / f".step-000007.{kind}.{pid}"
            folder.mkdir()
            (folder / "params.safetensors").write_bytes(b"half")
    save(tmp_path, _checkpoint())
    kept = [f".step-000007.{kind}.{living}" for kind in ("new", "gone")]
    assert _names(tmp_path) == sorted(["step-000100", *others, *kept])
    assert steps(tmp_path) == [100]


def test_a_checkpoint_set_aside_by_a_killed_process_is_found_and_comes_back(tmp_path):
    given = _checkpoint()
    path = save(tmp_path, given)
    aside = tmp_path / f".step-000100.aside.{_dead_process()}"
    path.rename(aside)
    assert steps(tmp_path) == [100]
    found, passed_over = newest([tmp_path])
    assert (found.path, passed_over) == (aside, [])
    save(tmp_path, _checkpoint(50))
    assert _names(tmp_path) == ["step-000050", "step-000100"]
    _assert_same(load(path), given)
    path.rename(aside)
    save(tmp_path, _checkpoint(extra={"again": True}))
    assert _names(tmp_path) == ["step-000050", "step-000100"]
    assert load(path).extra == {"again": True}


# Dies before the n-th thing that it does to the disk, for every n, while it replaces step 2 and
# deletes step 1. Forks, so that Python and NumPy start once.
DIES_EVERYWHERE = """
import os, sys
from dataclasses import replace
from shared import checkpoint

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def die_before(n):
    left = iter(range(n - 1))
    def hook(event, _):
        if event in TOUCHES and next(left, None) is None:
            os._exit(9)
    sys.addaudithook(hook)

start, folder = checkpoint.load(sys.argv[1]), sys.argv[2]
former = {"n": 0}
checkpoint.save(folder, replace(start, step=2, extra=former))
for n in range(1, 300):
    checkpoint.save(folder, replace(start, step=1))
    child = os.fork()
    if child == 0:
        die_before(n)
        checkpoint.save(folder, replace(start, step=2, extra={"n": n}))
        checkpoint.prune(folder, keep=1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found, passed_over = checkpoint.newest([folder])
    assert not passed_over, (n, passed_over)
    assert found.checkpoint.step == 2, n
    assert found.checkpoint.extra in (former, {"n": n}), n
    former = found.checkpoint.extra
    for step in checkpoint.steps(folder):
        assert step == 2 or checkpoint.load(f"{folder}/step-{step:06d}").step == step, n
    if status == 0:
        break
    assert os.waitstatus_to_exitcode(status) == 9, n
assert former == {"n": n}
assert os.listdir(folder) == ["step-000002"], os.listdir(folder)
print(n)
"""


def test_a_process_that_dies_at_any_moment_leaves_whole_checkpoints(tmp_path):
    start = save(tmp_path / "start", _checkpoint())
    command = [sys.executable, "-c", DIES_EVERYWHERE, str(start), str(tmp_path / "checkpoints")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 20  # moments at which it died


# Every step is written twice, the second time as another one.
WRITES_FOR_EVER = """
import itertools, sys
from dataclasses import replace
from shared import checkpoint

start, folder = checkpoint.load(sys.argv[1]), sys.argv[2]
for n in itertools.count(2 * max(checkpoint.steps(folder), default=0) + 2):
    params = {name: value + n // 2 for name, value in start.params.items()}
    checkpoint.save(folder, replace(start, step=n // 2, params=params, extra={"n": n}))
    checkpoint.prune(folder, keep=3)
    print(n // 2, flush=True)
"""


def test_kill_9_at_random_moments_leaves_whole_checkpoints(tmp_path):
    given = _checkpoint()
    start, folder = save(tmp_path / "start", given), tmp_path / "checkpoints"
    command = [sys.executable, "-c", WRITES_FOR_EVER, str(start), str(folder)]
    drawn = random.Random(0)
    for kill in range(12):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            time.sleep(drawn.uniform(0, 0.05))
            process.kill()
            written = [int(line) for line in [first, *process.stdout] if line.endswith("\n")]
        found, passed_over = newest([folder])
        assert passed_over == [], kill
        assert found.checkpoint.step >= written[-1], kill
        assert found.checkpoint.extra["n"] // 2 == found.checkpoint.step, kill
        wte = given.params["wte.weight"] + found.checkpoint.step
        assert np.array_equal(found.checkpoint.params["wte.weight"], wte), kill
        for path in folder.glob("step-*"):
            load(path)
    save(folder, given)
    assert [name for name in _names(folder) if name.startswith(".")] == []


# Folders of checkpoints


def test_the_newest_good_one_of_several_folders_is_found(tmp_path):
    torch, jax, absent = tmp_path / "torch", tmp_path / "jax", tmp_path / "absent"
    for step in (100, 200):
        save(torch, _checkpoint(step))
    for step in (150, 200, 300):
        save(jax, _checkpoint(step, framework="jax"))
    found, passed_over = newest([torch, jax, absent])
    assert (found.path, found.checkpoint.framework) == (jax / "step-000300", "jax")
    assert passed_over == []
    _damage(jax / "step-000300")
    found, passed_over = newest([torch, jax, absent])  # of equal steps, the first folder's
    assert found.path == torch / "step-000200"
    assert len(passed_over) == 1
    assert passed_over[0].startswith(f"{jax / 'step-000300' / 'params.safetensors'} is damaged")
    _damage(torch / "step-000200")
    found, passed_over = newest([torch, jax, absent])
    assert found.path == jax / "step-000200"
    assert len(passed_over) == 2
    for path in (jax / "step-000200", jax / "step-000150", torch / "step-000100"):
        _damage(path)
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
    save(tmp_path / "torch", _checkpoint())
    found, passed_over = newest([tmp_path / "file", tmp_path / "torch"])
    assert found.checkpoint.step == 100
    assert len(passed_over) == 1
    with pytest.raises(ValueError, match=r"cannot read .*file: Not a directory"):
        steps(tmp_path / "file")


def test_only_the_names_of_checkpoints_are_looked_at(tmp_path):
    save(tmp_path, _checkpoint())
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
        save(tmp_path, _checkpoint(step))
    assert prune(tmp_path, keep=4) == []
    assert prune(tmp_path, keep=2) == [10, 20]
    assert _names(tmp_path) == ["step-000030", "step-000040"]
    with pytest.raises(ValueError, match="keep is 0: expected 1 or more"):
        prune(tmp_path, keep=0)


def test_pruning_keeps_the_newest_good_one_though_it_is_older(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, _checkpoint(step))
    _damage(tmp_path / "step-000030")
    _damage(tmp_path / "step-000040")
    assert prune(tmp_path, keep=1) == [10, 30]
    assert steps(tmp_path) == [20, 40]
    found, _ = newest([tmp_path])
    assert found.checkpoint.step == 20


def test_pruning_that_fails_says_which_and_keeps_all(tmp_path, monkeypatch):
    for step in (10, 20):
        save(tmp_path, _checkpoint(step))

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(ValueError, match=r"cannot delete .*10: Permission denied: check"):
        prune(tmp_path, keep=1)
    assert _names(tmp_path) == ["step-000010", "step-000020"]


def test_a_link_to_a_checkpoint_is_found_and_only_the_link_is_deleted(tmp_path):
    elsewhere = save(tmp_path / "elsewhere", _checkpoint(10))
    folder = tmp_path / "checkpoints"
    save(folder, _checkpoint(20))
    (folder / "step-000010").symlink_to(elsewhere)
    assert steps(folder) == [10, 20]
    assert prune(folder, keep=1) == [10]
    assert _names(folder) == ["step-000020"]
    load(elsewhere)


# Another configuration


def test_differing_fields_are_named_with_both_values():
    assert checkpoint.differences(TINY, TINY) == []
    asked = replace(TINY, n_layers=4, drop_rate=0.2)
    assert checkpoint.differences(TINY, asked) == [
        "n_layers 2, asked 4",
        "drop_rate 0.1, asked 0.2",
    ]
    slower = replace(TRAIN.optimizer, learning_rate=0.5)
    asked_train = replace(TRAIN, optimizer=slower, batch_size=16)
    assert checkpoint.differences(TRAIN, asked_train) == [
        "learning_rate 0.001, asked 0.5",
        "batch_size 8, asked 16",
    ]
