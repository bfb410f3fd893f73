"""Checkpoints read: any damage is found and its file named."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shared.checkpoint import load, save
from tests.helpers.checkpoints import (
    FILES,
    TINY,
    TRAIN,
    forge,
    make_checkpoint,
)

ROOT = Path(__file__).parents[2]


def test_an_older_checkpoint_was_written_by_one_process(tmp_path):
    path = save(tmp_path, make_checkpoint())
    train = asdict(TRAIN)
    del train["data_parallel"], train["sharded"]
    forge(path, train=train)
    assert load(path).train == TRAIN


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_found_and_its_file_named(tmp_path, name):
    path = save(tmp_path, make_checkpoint())
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
    path = save(tmp_path, make_checkpoint())
    content = (path / "state.json").read_bytes()
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 0x20
        (path / "state.json").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"state\.json"):
            load(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_wrong_length_or_absent_is_named(tmp_path, name):
    path = save(tmp_path, make_checkpoint())
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
    path = save(tmp_path, make_checkpoint())
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
    path = save(tmp_path, make_checkpoint())
    (path / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"state\.json {message}"):
        load(path)


@pytest.mark.parametrize(
    "name",
    ["step", "framework", "model", "train", "data", "tokenizer", "random", "extra", "files"],
)
def test_a_state_lacking_a_field_is_refused(tmp_path, name):
    path = save(tmp_path, make_checkpoint())
    forge(path, **{name: None})
    with pytest.raises(ValueError, match=rf"state\.json has no '{name}'"):
        load(path)
    forge(path, **{name: True})
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
def test_a_wrong_value_in_the_state_names_its_field(tmp_path, changes, message):
    path = save(tmp_path, make_checkpoint())
    forge(path, **changes)
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
    path = save(tmp_path, make_checkpoint())
    forge(path, model=asdict(model))
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "in/params.safetensors"])
def test_a_name_in_the_state_is_never_followed(tmp_path, name):
    path = save(tmp_path / "checkpoints", make_checkpoint())
    outside = tmp_path / "checkpoints" / "outside.safetensors"
    outside.write_bytes((path / "params.safetensors").read_bytes())
    files = json.loads((path / "state.json").read_text())["files"]
    for forged in (
        {name if key == "params.safetensors" else key: value for key, value in files.items()},
        files | {name: files["params.safetensors"]},
    ):
        forge(path, files=forged)
        with pytest.raises(ValueError, match=f"names the files .*{name}.*: expected params"):
            load(path)


@pytest.mark.parametrize("entry", [None, 7, {}, {"bytes": None}, {"bytes": "all"}])
def test_a_file_without_its_size_or_digest_is_not_taken(tmp_path, entry):
    path = save(tmp_path, make_checkpoint())
    files = json.loads((path / "state.json").read_text())["files"]
    forge(path, files=files | {"params.safetensors": entry})
    with pytest.raises(ValueError, match=r"params\.safetensors has \d+ bytes, expected"):
        load(path)
    size = {"bytes": files["params.safetensors"]["bytes"]}
    forge(path, files=files | {"params.safetensors": size})
    with pytest.raises(ValueError, match=r"params\.safetensors is damaged, its sha256 differs"):
        load(path)


def test_a_path_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"state\.json does not exist: give a checkpoint"):
            load(path)
