"""The canonical parameters: names, initial values, and files that are read whole or refused."""

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

from shared import files as shared_files
from shared import params, safetensors_io, transformers_io
from shared.config import GPTConfig
from tests.helpers import growth

TINY = GPTConfig(vocab_size=13, context_length=7, emb_dim=8, n_heads=2, n_layers=2, qkv_bias=True)
UNTIED = replace(TINY, tie_embeddings=False)


def _start(config=TINY, dtype=np.float32):
    """Parameters whose every digit is in use in ``dtype``."""
    random = np.random.default_rng(0)
    shapes = params.gpt2_shapes(config)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def _assert_identical(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert ours[name].tobytes() == value.tobytes(), name


# Names


def test_names_are_those_of_hugging_face_in_forward_order():
    names = list(params.gpt2_shapes(UNTIED))
    assert names[:4] == ["wte.weight", "wpe.weight", "h.0.ln_1.weight", "h.0.ln_1.bias"]
    assert names[4:8] == [
        f"h.0.attn.{part}"
        for part in ("c_attn.weight", "c_attn.bias", "c_proj.weight", "c_proj.bias")
    ]
    assert names[-3:] == ["ln_f.weight", "ln_f.bias", "lm_head.weight"]


def test_only_what_the_configuration_asks_for_has_a_name():
    every, tied = set(params.gpt2_shapes(UNTIED)), set(params.gpt2_shapes(TINY))
    assert every - tied == {"lm_head.weight"}
    unbiased = set(params.gpt2_shapes(replace(TINY, qkv_bias=False)))
    assert tied - unbiased == {"h.0.attn.c_attn.bias", "h.1.attn.c_attn.bias"}


# Initial values


def test_the_start_depends_on_the_seed_alone():
    _assert_identical(params.init_gpt2(TINY, seed=3), params.init_gpt2(TINY, seed=3))
    other = params.init_gpt2(TINY, seed=4)
    for name, value in params.init_gpt2(TINY, seed=3).items():
        if value.ndim == 2:
            assert not np.array_equal(value, other[name]), name


def test_one_more_tensor_does_not_change_the_others():
    start = params.init_gpt2(TINY)
    deeper, untied = params.init_gpt2(replace(TINY, n_layers=3)), params.init_gpt2(UNTIED)
    for name, value in start.items():
        assert np.array_equal(value, untied[name]), name
        if not name.endswith("c_proj.weight"):  # these start smaller in a deeper model
            assert np.array_equal(value, deeper[name]), name


def test_no_two_tensors_are_drawn_alike():
    start = params.init_gpt2(UNTIED)
    drawn = [value.ravel()[:5].tobytes() for value in start.values() if value.ndim == 2]
    assert len(set(drawn)) == len(drawn)


SIZED = GPTConfig(vocab_size=300, context_length=200, emb_dim=64, n_heads=4, n_layers=3)
FIVE_SIGMA = 5  # a sample's deviation beyond it is one seed in two million


def test_matrices_start_normal_and_residual_projections_smaller():
    for name, value in params.init_gpt2(replace(SIZED, tie_embeddings=False)).items():
        if value.ndim == 2:
            residual = name.endswith("c_proj.weight")
            std = 0.02 / math.sqrt(2 * SIZED.n_layers) if residual else 0.02
            assert abs(value.mean()) < FIVE_SIGMA * std / math.sqrt(value.size), name
            assert abs(value.std() / std - 1) < FIVE_SIGMA / math.sqrt(2 * value.size), name


def test_gains_start_at_one_and_biases_at_zero():
    for name, value in params.init_gpt2(replace(SIZED, qkv_bias=True)).items():
        assert value.dtype == np.float32, name
        if value.ndim == 1:
            assert np.all(value == (1 if name.endswith(".weight") else 0)), name


def test_a_spread_moves_every_gain_and_bias_and_no_matrix():
    exact, spread = params.init_gpt2(TINY), params.init_gpt2(TINY, spread=0.02)
    for name, value in exact.items():
        if value.ndim == 1:
            assert np.all(value != spread[name]), name
        else:
            assert np.array_equal(value, spread[name]), name


def test_small_nets_start_uniform_by_fan_in():
    shapes = {"fc.weight": (100, 50), "fc.bias": (5000,)}
    for name, value in params.init_uniform(shapes).items():
        assert value.dtype == np.float32, name
        assert 0.099 < np.abs(value).max() <= np.float32(0.1), name
        assert abs(value.mean()) < FIVE_SIGMA * 0.1 / math.sqrt(3 * value.size), name
    assert params.init_uniform(params.NEURON_SHAPES)["w"].shape == ()


# Canonical names


def test_names_with_the_transformer_prefix_are_the_same_names():
    start = _start()
    prefixed = {f"transformer.{name}": value for name, value in reversed(start.items())}
    _assert_identical(transformers_io.canonical(prefixed, TINY), start)
    _assert_identical(transformers_io.canonical(start, TINY), start)


def test_the_mask_buffers_of_old_files_are_left_out():
    start = _start()
    buffers = {"h.0.attn.bias": np.ones((1, 1, 7, 7), bool), "h.1.attn.masked_bias": np.array(-1e4)}
    _assert_identical(transformers_io.canonical(start | buffers, TINY), start)
    prefixed = {f"transformer.{name}": value for name, value in buffers.items()}
    _assert_identical(transformers_io.canonical(start | prefixed, TINY), start)


def test_a_tied_head_may_not_differ_from_the_embedding():
    start = _start()
    repeated = start | {"lm_head.weight": start["wte.weight"].copy()}
    _assert_identical(transformers_io.canonical(repeated, TINY), start)
    repeated["lm_head.weight"][3, 1] += 1
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from wte\.weight"):
        transformers_io.canonical(repeated, TINY)


def test_an_untied_head_is_kept_and_must_be_there():
    start = _start(UNTIED)
    _assert_identical(transformers_io.canonical(start, UNTIED), start)
    del start["lm_head.weight"]
    with pytest.raises(ValueError, match=r"'lm_head\.weight' is missing"):
        transformers_io.canonical(start, UNTIED)


NAME = "h.1.mlp.c_fc.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NAME: None}, rf"tensor '{NAME}' is missing: expected shape \(32,\)"),
        ({"h.2.ln_1.bias": np.zeros(8)}, r"unknown tensor 'h\.2\.ln_1\.bias'"),
        ({"h.0.mlp.bias": np.zeros(8)}, r"unknown tensor 'h\.0\.mlp\.bias'"),
        ({NAME: np.zeros((32, 1))}, rf"'{NAME}' has shape \(32, 1\): expected \(32,\)"),
        ({NAME: np.zeros(32, int)}, rf"'{NAME}' is of dtype int64: expected floating"),
        ({NAME: np.zeros(32, complex)}, rf"'{NAME}' is of dtype complex128: expected floating"),
        ({NAME: np.full(32, np.nan)}, rf"'{NAME}' holds NaN or infinity"),
        ({NAME: np.array([np.inf, *[0] * 31])}, rf"'{NAME}' holds NaN or infinity"),
        ({f"transformer.{NAME}": np.zeros(32)}, rf"'{NAME}' is there twice"),
    ],
)
def test_a_wrong_tensor_is_refused_by_its_name(change, message):
    tensors = {name: value for name, value in (_start() | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        transformers_io.canonical(tensors, TINY)


# Files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", [TINY, UNTIED])
def test_a_saved_folder_loads_bit_for_bit(tmp_path, config, dtype):
    start = _start(config, dtype)
    start["ln_f.bias"][:3] = -0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    transformers_io.save(tmp_path / "new" / "model", config, start)
    loaded, found = transformers_io.load(tmp_path / "new" / "model")
    assert loaded == config
    _assert_identical(found, start)
    _assert_identical(
        transformers_io.load(tmp_path / "new/model/model.safetensors", config)[1], start
    )


def test_transposed_views_are_saved_by_value(tmp_path):
    start = {name: np.asfortranarray(value) for name, value in _start().items()}
    transformers_io.save(tmp_path, TINY, start)
    text = (tmp_path / "config.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"  # for people, too
    _assert_identical(transformers_io.load(tmp_path)[1], start)


def test_absent_biases_are_exported_as_zeros(tmp_path):
    config = replace(TINY, qkv_bias=False)
    transformers_io.save(tmp_path, config, _start(config))
    loaded, found = transformers_io.load(tmp_path)
    assert loaded == TINY
    for i in range(TINY.n_layers):
        assert not found.pop(f"h.{i}.attn.c_attn.bias").any(), i
    _assert_identical(found, _start(config))


def _safetensors(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _one(dtype: str, data: bytes, shape: tuple[int, ...] = (2,), end: int | None = None) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data) if end is None else end]}
    return _safetensors({"a": entry}, data)


WHOLE = to_safetensors(_start())
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")
DAMAGED = {
    "empty": b"",
    "text": b"these are not the weights" * 9,
    "a pickle": b"\x80\x04\x95" + bytes(100),
    **{
        f"cut to {n} bytes": WHOLE[:n]
        for n in (4, 8, HEADER // 2, HEADER, HEADER + 5, len(WHOLE) - 1)
    },
    "longer than it says": WHOLE + b"\0",
    "a header beyond the end": (2**40).to_bytes(8, "little") + WHOLE[8:],
    "a header that is no object": _safetensors([1, 2], b""),
    "a shape that is too large": _one("F32", bytes(8), shape=(3,)),
    "a shape beyond counting": _one("F32", bytes(8), shape=(2**62, 2)),
    "an end beyond the data": _one("F32", bytes(8), end=16, shape=(4,)),
    "an unknown dtype": _one("F31", bytes(8)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_weight_file_is_refused_by_its_path(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        safetensors_io.read_safetensors(path)


def test_an_absent_weight_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        safetensors_io.read_safetensors(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="is not a whole"):
        safetensors_io.read_safetensors(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "data"), [("F16", b"\x00\x3e\x00\xc0"), ("BF16", b"\xc0\x3f\x00\xc0")]
)
def test_16_bit_floats_are_widened_to_float32(tmp_path, dtype, data):
    path = tmp_path / "half.safetensors"
    path.write_bytes(_one(dtype, data))
    (value,) = safetensors_io.read_safetensors(path).values()
    assert value.dtype == np.float32
    assert value.tolist() == [1.5, -2.0]


def test_floats_under_16_bits_are_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    path.write_bytes(_one("F8_E4M3", bytes(2)))
    with pytest.raises(ValueError, match="holds tensor 'a' as F8_E4M3: expected 16-bit floats"):
        safetensors_io.read_safetensors(path)


@pytest.mark.parametrize("dtype", ["int16", "int64", "bool"])
def test_integers_in_a_weight_file_do_not_pass_for_floats(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_safetensors(_start() | {NAME: np.ones(32, dtype)}))
    with pytest.raises(ValueError, match=rf"'{NAME}' is of dtype {dtype}: expected floating"):
        transformers_io.load(path, TINY)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, step):
    path = tmp_path / "model.safetensors"
    safetensors_io.write_safetensors(path, {"a": np.zeros(2)})

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(ValueError, match=r"cannot write .*model\.safetensors: No space left"):
        safetensors_io.write_safetensors(path, {"a": np.ones(2)})
    monkeypatch.undo()
    assert safetensors_io.read_safetensors(path)["a"].tolist() == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_to_where_no_file_can_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot write"):
        shared_files.write_bytes(tmp_path / "absent" / "file", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="cannot write"):
        shared_files.write_bytes(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot write"):
        transformers_io.save(tmp_path / "file", TINY, _start())


# Folders


def _sharded(folder, index):
    start = _start()
    names = list(start)
    for shard, part in (("one", names[::2]), ("two", names[1::2])):
        safetensors_io.write_safetensors(
            folder / f"{shard}.safetensors", {n: start[n] for n in part}
        )
    (folder / "config.json").write_text(json.dumps(transformers_io.config_to_transformers(TINY)))
    (folder / "model.safetensors.index.json").write_text(index)
    return start


def _index(*files):
    return json.dumps({"weight_map": {f"tensor {i}": file for i, file in enumerate(files)}})


def test_shards_are_read_together(tmp_path):
    start = _sharded(tmp_path, _index("one.safetensors", "two.safetensors", "one.safetensors"))
    _assert_identical(transformers_io.load(tmp_path)[1], start)


@pytest.mark.parametrize(
    "file", ["../one.safetensors", "/one.safetensors", "in/one.safetensors", 7]
)
def test_a_shard_outside_the_folder_is_refused(tmp_path, file):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "in").mkdir()
    _sharded(folder, _index(file))
    for place in (tmp_path, folder / "in"):
        safetensors_io.write_safetensors(place / "one.safetensors", _start())
    with pytest.raises(ValueError, match=f"names {file!r}: expected a file beside it"):
        transformers_io.load(folder)


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": []}}']
)
def test_an_index_that_is_none_is_refused(tmp_path, index):
    _sharded(tmp_path, index)
    with pytest.raises(ValueError, match="is not a shard index: expected a 'weight_map' object"):
        transformers_io.load(tmp_path)


def test_a_missing_shard_and_missing_weights_are_refused(tmp_path):
    _sharded(tmp_path, _index("one.safetensors", "three.safetensors"))
    with pytest.raises(ValueError, match=r"three\.safetensors does not exist"):
        transformers_io.load(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors does not exist"):
        transformers_io.load(tmp_path)


def test_a_folder_without_a_readable_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        transformers_io.load(tmp_path)
    for text in ("", "{", "\x80"):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"config\.json is not readable JSON"):
            transformers_io.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON object"):
        transformers_io.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"n_embd": 1' + "0" * 5000 + "}", "not readable JSON"),
        ('{"vocab_size": 9, "n_positions": 9, "n_embd": {}, "n_head": 1, "n_layer": 1}', "emb_dim"),
        (
            '{"vocab_size": 9, "n_positions": 9, "n_embd": 8, "n_head": 1, "n_layer": 1e9}',
            "n_layers",
        ),
        (
            '{"vocab_size": 9, "n_positions": 9, "n_embd": 8, "n_head": 1, "n_layer": 1000000000}',
            "n_layers is 1000000000: expected at most",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_configuration_that_is_damaged_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        transformers_io.load(tmp_path)


def test_a_single_file_needs_its_sizes_said(tmp_path):
    safetensors_io.write_safetensors(tmp_path / "model.safetensors", _start())
    with pytest.raises(ValueError, match="single file: say its sizes with --preset"):
        transformers_io.load(tmp_path / "model.safetensors")


# transformers' configuration


@pytest.mark.parametrize("config", [TINY, UNTIED])
def test_a_configuration_survives_the_words_of_transformers(config):
    raw = json.loads(json.dumps(transformers_io.config_to_transformers(config)))
    assert transformers_io.config_from_transformers(raw) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama': expected 'gpt2'"),
        ({"activation_function": "gelu"}, "activation_function 'gelu': expected 'gelu_new' or"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06: expected 1e-05"),
        ({"scale_attn_weights": False}, "scale_attn_weights False: expected True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx True: expected False"),
        ({"add_cross_attention": True}, "add_cross_attention True: expected False"),
        ({"n_inner": 31}, "n_inner 31: expected 32"),
        ({"n_embd": None}, "no 'n_embd'"),
        ({"n_head": 3}, "not divisible by n_heads 3"),
        ({"n_layer": "2"}, "n_layers is '2': expected a positive whole number"),
        ({"resid_pdrop": 1.5}, "drop_rate is 1.5: expected"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_another_architecture_is_refused_by_its_field(change, message):
    raw = transformers_io.config_to_transformers(TINY) | change
    raw = {name: value for name, value in raw.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        transformers_io.config_from_transformers(raw)


def test_fields_absent_in_old_files_are_gpt2s():
    sizes = {"vocab_size": 13, "n_positions": 7, "n_embd": 8, "n_head": 2, "n_layer": 2}
    assert transformers_io.config_from_transformers(sizes | {"n_inner": None}) == TINY
    assert transformers_io.config_from_transformers(sizes | {"n_inner": 32}) == TINY


def test_twice_the_names_are_checked_in_twice_the_time():
    def work(number):
        shapes = {f"h.{i}.weight": (1,) for i in range(number)}
        return lambda: params.check_names(reversed(shapes), shapes)

    growth.check_linear(work(20_000), work(40_000))
