"""What stands in a checkpoint, byte by byte, and every refusal as a whole sentence."""

import errno
import hashlib
import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

from shared.checkpoint import load, newest, prune, save, save_each, steps
from shared.checkpoint.folders import flush
from shared.checkpoint.format import folder_name, is_sealed, seal, step_of
from tests.helpers.checkpoints import (
    GROUPS,
    TENSOR_FILES,
    TINY,
    TRAIN,
    assert_same,
    damage,
    forge,
    make_checkpoint,
)


def _message(function, *arguments):
    with pytest.raises(ValueError, match=r".") as refused:
        function(*arguments)
    return str(refused.value)


def test_the_state_holds_every_field_and_each_files_size_and_digest(tmp_path):
    given = make_checkpoint(step=7)
    path = save(tmp_path, given)
    content = (path / "state.json").read_bytes()
    state = json.loads(content)
    assert list(state) == [
        "format", "version", "step", "framework", "model", "train", "data", "tokenizer", "random",
        "extra", "files", "sha256",
    ]  # fmt: skip
    assert (state["format"], state["version"]) == ("twingrad checkpoint", 1)
    assert (state["step"], state["framework"]) == (7, "torch")
    assert (state["model"], state["train"]) == (asdict(TINY), asdict(TRAIN))
    for name in ("data", "tokenizer", "random", "extra"):
        assert state[name] == getattr(given, name)
    written = {name: (path / name).read_bytes() for name in TENSOR_FILES}
    assert state["files"] == {
        name: {"bytes": len(bits), "sha256": hashlib.sha256(bits).hexdigest()}
        for name, bits in written.items()
    }
    digest = state["sha256"].encode()
    assert content.endswith(digest + b'"\n}\n')
    assert digest == hashlib.sha256(content.replace(digest, b"")).hexdigest().encode()


def test_a_tensor_file_is_a_padded_header_and_the_tensors_in_order(tmp_path):
    given = make_checkpoint(dtype="float64")
    content = (save(tmp_path, given) / "params.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0
    text = content[8 : 8 + size]
    assert text == text.rstrip(b" ") + b" " * (-len(text.rstrip(b" ")) % 8)
    header = json.loads(text)
    assert b": " not in text
    assert header.pop("__metadata__") == {"format": "pt"}
    assert list(header) == list(given.params)
    at = 0
    for name, value in given.params.items():
        entry = {
            "dtype": "F64",
            "shape": list(value.shape),
            "data_offsets": [at, at + value.nbytes],
        }
        assert header[name] == entry
        assert content[8 + size + at : 8 + size + at + value.nbytes] == value.tobytes()
        at += value.nbytes
    assert len(content) == 8 + size + at


def test_a_seal_is_of_every_byte_but_its_own():
    sealed = seal({"a": 1})
    digest = json.loads(sealed)["sha256"]
    blank = b'{\n  "a": 1,\n  "sha256": ""\n}\n'
    assert digest == hashlib.sha256(blank).hexdigest()
    assert sealed == blank.replace(b'""', f'"{digest}"'.encode())
    assert is_sealed(sealed)
    for other in (sealed + b" ", sealed[1:], sealed.replace(b"1", b"2", 1), b"", b"{}"):
        assert not is_sealed(other), other
    with pytest.raises(ValueError, match="Out of range float"):
        seal({"a": float("nan")})


def test_the_name_of_a_folder_has_six_digits_or_more_and_one_step():
    assert [folder_name(step) for step in (0, 100, 1_000_000)] == [
        "step-000000", "step-000100", "step-1000000"
    ]  # fmt: skip
    names = (
        "step-000000",
        "step-000100",
        "step-1000000",
        "step-0000100",
        "step-100",
        "xstep-000100",
    )
    assert [step_of(name) for name in names] == [0, 100, 1_000_000, None, None, None]


def test_a_step_of_nothing_is_a_step(tmp_path):
    assert load(save(tmp_path, make_checkpoint(step=0))).step == 0
    assert steps(tmp_path) == [0]


def test_older_checkpoints_are_of_one_process_that_holds_everything(tmp_path):
    path = save(tmp_path, make_checkpoint())
    train = {k: v for k, v in asdict(TRAIN).items() if k not in ("data_parallel", "sharded")}
    forge(path, train=train)
    found = load(path).train
    assert (found.data_parallel, found.sharded) == (1, 1)
    forge(path, train=asdict(replace(TRAIN, data_parallel=2)))
    assert load(path).train.data_parallel == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "is not the state of a twingrad checkpoint: resume from another one"),
        (
            b'{"format": "twingrad checkpoint", "version": 3}',
            "is of format version 3: this twingrad reads version 1, so use the one that wrote it",
        ),
        (
            b'{"format": "twingrad checkpoint", "version": 1}',
            "is damaged, its sha256 differs: resume from another checkpoint",
        ),
        (b"\x80", None),
        (None, "does not exist: give a checkpoint folder, step-..."),
    ],
)
def test_a_state_is_refused_in_a_whole_sentence(tmp_path, content, words):
    path = save(tmp_path, make_checkpoint())
    state = path / "state.json"
    state.unlink() if content is None else state.write_bytes(content)
    said = _message(load, path)
    if words:
        assert said == f"{state} {words}"
    else:
        assert said.startswith(f"{state} is not readable JSON ('utf-8' codec")
        assert said.endswith("): resume from another checkpoint")


def test_fields_are_refused_in_whole_sentences(tmp_path):
    path = save(tmp_path, make_checkpoint())
    state = path / "state.json"
    files = json.loads(state.read_text())["files"]
    forge(path, files={"a": 1})
    names = ", ".join(TENSOR_FILES)
    assert _message(load, path) == f"{state} names the files ['a']: expected {names}"
    forge(path, files=files, step="100")
    assert _message(load, path) == f"{state} has step '100': expected int"
    forge(path, step=100, framework=None)
    assert _message(load, path) == f"{state} has no 'framework': resume from another checkpoint"
    forge(path, framework="")
    assert _message(load, path) == f"{state}: framework is '': expected torch or jax"
    forge(path, framework="jax", train=asdict(TRAIN) | {"optimizer": 7})
    assert _message(load, path) == f"{state} has optimizer 7: expected an object of settings"
    forge(path, train=asdict(TRAIN), model=asdict(TINY) | {"experts": 8})
    assert _message(load, path) == (
        f"{state} has 'experts' in its GPTConfig, which has no such field"
    )
    forge(path, model={k: v for k, v in asdict(TINY).items() if k != "n_heads"})
    assert _message(load, path) == f"{state} has no 'n_heads' in its GPTConfig: it is too old"
    forge(path, model=asdict(TINY))
    load(path)


def test_a_tensor_file_is_refused_in_a_whole_sentence(tmp_path):
    path = save(tmp_path, make_checkpoint())
    file = path / "second_moment.safetensors"
    size = file.stat().st_size
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    assert _message(load, path) == (
        f"{file} has {size + 1} bytes, expected {size}: resume from another checkpoint"
    )
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert _message(load, path) == (
        f"{file} is damaged, its sha256 differs: resume from another checkpoint"
    )
    file.unlink()
    assert _message(load, path) == f"{file} does not exist: resume from another checkpoint"
    file.mkdir()
    words = "Is a directory: check its permissions"
    assert _message(load, path) == f"cannot read {file}: {words}"
    (path / "state.json").unlink()
    (path / "state.json").mkdir()
    assert _message(load, path) == f"cannot read {path / 'state.json'}: {words}"


def test_a_tensor_is_not_saved_in_a_whole_sentence(tmp_path):
    given = make_checkpoint(step=9)
    given.first_moment["wte.weight"] = given.first_moment["wte.weight"].astype(np.float16)
    assert _message(save, tmp_path, given) == (
        "first_moment has 'wte.weight' as float16: a checkpoint holds float32 or float64, "
        "so convert it first"
    )
    given = make_checkpoint(step=9)
    given.second_moment["ln_f.bias"][0] = np.inf
    assert _message(save, tmp_path, given) == (
        "second_moment has NaN or infinity in 'ln_f.bias' at step 9: the training diverged, "
        "so go back to an earlier checkpoint"
    )
    given = make_checkpoint()
    del given.params["ln_f.bias"]
    assert _message(save, tmp_path, given) == (
        "params: tensor 'ln_f.bias' is missing: expected shape (8,)"
    )


def _each(given):
    return [(group, n, v) for group in GROUPS for n, v in getattr(given, group).items()]


def test_tensors_that_come_one_by_one_are_refused_in_whole_sentences(tmp_path):
    given = make_checkpoint()
    tensors = _each(given)

    def said(changed):
        return _message(save_each, tmp_path, given, changed)

    assert said([tensors[1], tensors[0], *tensors[2:]]) == (
        "params 'wpe.weight' came where params 'wte.weight' was expected"
    )
    assert said(tensors[:-1]) == (
        "nothing 'more' came where second_moment 'ln_f.bias' was expected"
    )
    group, name, value = tensors[1]
    assert said([tensors[0], (group, name, value.astype(np.float64)), *tensors[2:]]) == (
        "params has 'wpe.weight' as float64: expected float32 as before"
    )
    assert said([tensors[0], (group, name, value[1:]), *tensors[2:]]) == (
        "params: tensor 'wpe.weight' has shape (6, 8): expected (7, 8)"
    )
    assert os.listdir(tmp_path) == []
    assert_same(load(save_each(tmp_path, given, iter(tensors))), given)


@pytest.mark.parametrize(("error", "why"), [(OSError(errno.EIO, "no luck"), "no luck"),
                                            (OSError("odd"), "odd")])  # fmt: skip
def test_a_folder_that_cannot_be_written_is_said_in_a_whole_sentence(
    tmp_path, monkeypatch, error, why
):
    def fails(*_):
        raise error

    save(tmp_path, make_checkpoint(10))
    save(tmp_path, make_checkpoint(20))
    monkeypatch.setattr(os, "fsync", fails)
    assert _message(save, tmp_path, make_checkpoint(30)) == (
        f"cannot write {tmp_path / 'step-000030'}: {why}: free space or choose another folder"
    )
    monkeypatch.setattr(os, "rename", fails)
    assert _message(prune, tmp_path, 1) == (
        f"cannot delete {tmp_path / 'step-000010'}: {why}: check the folder's permissions"
    )
    assert steps(tmp_path) == [10, 20]
    monkeypatch.setattr(os, "listdir", fails)
    words = f"cannot read {tmp_path}: {why}: give another folder"
    assert _message(steps, tmp_path) == words
    assert newest([tmp_path]) == (None, [words])


def test_pruning_spares_the_newest_the_good_and_the_named(tmp_path):
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, make_checkpoint(step))
    damage(tmp_path / "step-000050")
    assert prune(tmp_path, keep=1, also=[20]) == [10, 30]
    assert steps(tmp_path) == [20, 40, 50]
    assert prune(tmp_path, keep=3) == []
    assert prune(tmp_path, keep=2) == [20]


def test_the_entries_of_a_folder_are_flushed_and_the_folder_closed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(os.fstat(handle).st_ino))
    before = len(os.listdir("/proc/self/fd"))
    flush(tmp_path)
    assert seen == [tmp_path.stat().st_ino]
    assert len(os.listdir("/proc/self/fd")) == before
