"""Weights as files have them: what is looked up, how it is named, and every word of its refusal."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from shared import params, safetensors_io, transformers_io
from shared.config import GPTConfig
from shared.safetensors_io import Stored

TINY = GPTConfig(vocab_size=13, context_length=7, emb_dim=8, n_heads=2, n_layers=2, qkv_bias=True)
UNTIED = replace(TINY, tie_embeddings=False, qkv_bias=False)
SHAPES = {"b": (2,), "a": (2, 3), "c": ()}


def _tensors(shapes=SHAPES, dtype=np.float32):
    random = np.random.default_rng(0)
    return {name: np.asarray(random.normal(size=shape), dtype) for name, shape in shapes.items()}


def _message(function, *arguments):
    with pytest.raises(ValueError, match=r".") as refused:
        function(*arguments)
    return str(refused.value)


# Names and sizes


def test_the_small_nets_have_the_sizes_of_their_chapters():
    assert params.NEURON_SHAPES == {"w": (), "b": ()}
    assert params.SIMPLE_NET_SHAPES == {
        "fc1.weight": (10, 5), "fc1.bias": (5,), "fc2.weight": (5, 1), "fc2.bias": (1,)
    }  # fmt: skip
    assert params.count(params.NEURON_SHAPES) == 2
    assert params.count(params.SIMPLE_NET_SHAPES) == 61


def test_gpt2_has_the_published_number_of_parameters():
    published = GPTConfig(
        vocab_size=50257, context_length=1024, emb_dim=768, n_heads=12, n_layers=12
    )
    assert params.count(params.gpt2_shapes(published)) == 124_412_160
    biased = replace(published, qkv_bias=True)
    assert params.count(params.gpt2_shapes(biased)) == 124_439_808
    untied = replace(published, tie_embeddings=False)
    assert params.count(params.gpt2_shapes(untied)) == 163_009_536


def test_every_parameter_of_gpt2_has_its_shape():
    one = replace(UNTIED, n_layers=1, qkv_bias=True)
    assert params.gpt2_shapes(one) == {
        "wte.weight": (13, 8), "wpe.weight": (7, 8),
        "h.0.ln_1.weight": (8,), "h.0.ln_1.bias": (8,),
        "h.0.attn.c_attn.weight": (8, 24), "h.0.attn.c_attn.bias": (24,),
        "h.0.attn.c_proj.weight": (8, 8), "h.0.attn.c_proj.bias": (8,),
        "h.0.ln_2.weight": (8,), "h.0.ln_2.bias": (8,),
        "h.0.mlp.c_fc.weight": (8, 32), "h.0.mlp.c_fc.bias": (32,),
        "h.0.mlp.c_proj.weight": (32, 8), "h.0.mlp.c_proj.bias": (8,),
        "ln_f.weight": (8,), "ln_f.bias": (8,), "lm_head.weight": (13, 8),
    }  # fmt: skip


def test_names_are_sorted_as_the_model_runs():
    names = list(params.gpt2_shapes(replace(UNTIED, n_layers=11, qkv_bias=True)))
    shuffled = list(np.random.default_rng(0).permutation(names))
    assert sorted(shuffled, key=params.forward_order) == names


def test_the_start_of_a_small_net_is_within_one_over_the_root_of_its_inputs():
    shapes = {"a.weight": (400, 50), "a.bias": (50,), "b": (500,)}
    drawn = params.init_uniform(shapes, seed=3)
    for name, bound in (("a.weight", 1 / 20), ("a.bias", 1 / 20), ("b", 1.0)):
        assert np.abs(drawn[name]).max() <= bound, name
        assert np.abs(drawn[name]).max() > 0.8 * bound, name
        assert drawn[name].dtype == np.float32
        assert not np.array_equal(drawn[name], params.init_uniform(shapes, seed=4)[name])


def test_the_start_of_gpt2_is_the_published_one():
    config = replace(TINY, vocab_size=700, emb_dim=64, n_layers=8)
    start = params.init_gpt2(config, seed=1, spread=0.5)
    for name, value in start.items():
        assert value.dtype == np.float32, name
        if value.ndim == 2:
            std, mean = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02, 0.0
        else:
            std, mean = 0.5, float(name.endswith(".weight"))
        assert value.std() == pytest.approx(std, rel=0.35), name
        assert value.mean() == pytest.approx(mean, abs=4 * std / np.sqrt(value.size)), name
    assert all((start[n] != v).all() for n, v in params.init_gpt2(config, seed=2).items())
    plain = params.init_gpt2(config, seed=1)
    assert (plain["ln_f.weight"] == 1).all()
    assert (plain["ln_f.bias"] == 0).all()


# One tensor and all names


def test_a_wrong_tensor_is_refused_in_whole_sentences():
    check = params.check_tensor
    for dtype in ("float16", "float32", "float64"):
        check("w", np.ones((2, 3), dtype), (2, 3))
    bfloat16 = pytest.importorskip("ml_dtypes", reason="JAX brings NumPy's bfloat16").bfloat16
    check("w", np.ones(2, bfloat16), (2,))
    assert _message(check, "w", np.ones(3), (2,)) == "tensor 'w' has shape (3,): expected (2,)"
    assert _message(check, "w", np.ones(2, int), (2,)) == (
        "tensor 'w' is of dtype int64: expected floating point"
    )
    for wrong in (np.nan, np.inf):
        assert _message(check, "w", np.array([1.0, wrong]), (2,)) == (
            "tensor 'w' holds NaN or infinity: the file is damaged"
        )


def test_names_are_held_against_shapes_and_put_in_their_order():
    given = _tensors()
    turned = dict(reversed(given.items()))
    assert list(params.check(turned, SHAPES)) == ["b", "a", "c"]
    assert params.check(turned, SHAPES)["a"] is given["a"]
    names = params.check_names
    assert _message(names, ["a", "c"], SHAPES) == "tensor 'b' is missing: expected shape (2,)"
    assert _message(names, ["a", "b", "c", "d"], SHAPES) == (
        "unknown tensor 'd': the configuration has no such parameter"
    )
    names(iter(["c", "b", "a"]), SHAPES)


# Tensors that are read when they are looked up


def test_stored_tensors_are_a_mapping_in_the_order_of_their_shapes(tmp_path):
    given = _tensors()
    safetensors_io.write_safetensors(tmp_path / "t.safetensors", dict(reversed(given.items())))
    stored = Stored(tmp_path / "t.safetensors", SHAPES)
    assert list(stored) == ["b", "a", "c"]
    assert len(stored) == 3
    for name, value in stored.items():
        np.testing.assert_array_equal(value, given[name])
        assert value.shape == SHAPES[name]
    assert "d" not in stored
    with pytest.raises(KeyError, match="'d'"):
        stored["d"]
    assert stored.path == tmp_path / "t.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": np.ones(1, np.float32)}, "unknown tensor 'd': the configuration has no"),
        ({"a": np.ones((3, 2), np.float32)}, "tensor 'a' has shape (3, 2): expected (2, 3)"),
        ({"c": np.asarray(np.nan, np.float32)}, "tensor 'c' holds NaN or infinity"),
    ],
)
def test_stored_tensors_are_checked_at_the_start_and_the_file_is_named(tmp_path, change, words):
    path = tmp_path / "t.safetensors"
    safetensors_io.write_safetensors(path, _tensors() | change)
    assert _message(Stored, path, SHAPES).startswith(f"{path}: {words}")


def test_a_file_that_is_gone_or_damaged_after_the_check_is_refused_at_the_look_up(tmp_path):
    path = tmp_path / "t.safetensors"
    safetensors_io.write_safetensors(path, _tensors())
    stored = Stored(path, SHAPES)
    path.unlink()
    words = f"{path} does not exist: give a .safetensors file or a folder"
    assert _message(stored.__getitem__, "a") == words
    path.write_bytes(b"no tensors")
    assert re.fullmatch(
        rf"{path} is not a whole safetensors file \(.+\): save or download it again",
        _message(stored.__getitem__, "a"),
    )


def _file(path, dtype, data, shape):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [4, 4 + len(data)]}
    pad = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps({"before": pad, "x": entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4) + data)
    return path


def test_bfloat16_is_the_upper_half_of_float32_in_its_shape(tmp_path):
    numbers = np.array([[1.0, -2.5, 3e38], [0.0, 1e-40, -0.15625]], np.float32)
    upper = (numbers.view(np.uint32) >> 16).astype("<u2")
    path = _file(tmp_path / "t.safetensors", "BF16", upper.tobytes(), [2, 3])
    expected = (upper.astype(np.uint32) << 16).view(np.float32)
    read = safetensors_io.read_safetensors(path)["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("dtype", ["F8_E5M2", "F8_E4M3"])
def test_floats_of_eight_bits_are_refused_by_name(tmp_path, dtype):
    path = _file(tmp_path / "t.safetensors", dtype, b"\x01\x02", [2])
    assert _message(safetensors_io.read_safetensors, path) == (
        f"{path} holds tensor 'x' as {dtype}: expected 16-bit floats or wider"
    )


def test_what_is_written_says_that_it_is_laid_out_as_pytorchs(tmp_path):
    given = {"a": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}
    safetensors_io.write_safetensors(tmp_path / "t.safetensors", given)
    with safe_open(tmp_path / "t.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        np.testing.assert_array_equal(file.get_tensor("a"), given["a"])


# Folders of transformers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_export_has_transformers_names_and_the_width_of_its_weights(tmp_path, dtype):
    shapes = params.gpt2_shapes(UNTIED)
    transformers_io.save(tmp_path, UNTIED, _tensors(shapes, dtype))
    saved = load_file(tmp_path / "model.safetensors")
    biases = {f"transformer.h.{i}.attn.c_attn.bias" for i in range(2)}
    named = {n if n == "lm_head.weight" else f"transformer.{n}" for n in shapes}
    assert set(saved) == named | biases
    assert {value.dtype.name for value in saved.values()} == {dtype}
    assert {saved[name].shape for name in biases} == {(24,)}
    transformers_io.save(tmp_path, UNTIED, _tensors(shapes))  # over what is there


def test_an_exports_configuration_is_complete():
    raw = transformers_io.config_to_transformers(replace(UNTIED, drop_rate=0.25))
    assert raw == {
        "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False, "architectures": ["GPT2LMHeadModel"], "vocab_size": 13,
        "n_positions": 7, "n_embd": 8, "n_head": 2, "n_layer": 2, "attn_pdrop": 0.25,
        "embd_pdrop": 0.25, "resid_pdrop": 0.25, "tie_word_embeddings": False,
    }  # fmt: skip
    back = transformers_io.config_from_transformers(raw)
    assert back == replace(UNTIED, drop_rate=0.25, qkv_bias=True)
    other = raw | {"activation_function": "gelu_pytorch_tanh"}
    assert transformers_io.config_from_transformers(other) == back
    del raw["resid_pdrop"], raw["tie_word_embeddings"]
    assert transformers_io.config_from_transformers(raw) == replace(
        back, drop_rate=0.1, tie_embeddings=True
    )


def test_a_wrong_configuration_is_refused_in_whole_sentences():
    raw = transformers_io.config_to_transformers(TINY)
    of = transformers_io.config_from_transformers
    assert _message(of, raw | {"activation_function": "relu"}) == (
        "config.json has activation_function 'relu': expected 'gelu_new' or 'gelu_pytorch_tanh'"
    )
    assert _message(of, raw | {"n_inner": 16}) == (
        "config.json has n_inner 16: expected 32, 4 times n_embd"
    )
    for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer"):
        less = {key: value for key, value in raw.items() if key != name}
        assert _message(of, less) == (
            f"config.json has no {name!r}: expected a GPT-2 configuration"
        )
    assert _message(of, raw | {"n_head": 3}).startswith("config.json: emb_dim 8 ")


def test_tensors_are_renamed_and_what_is_doubled_is_refused_in_whole_sentences():
    start = _tensors(params.gpt2_shapes(TINY))
    buffers = {"h.0.attn.bias": np.ones((1, 1)), "transformer.h.1.attn.masked_bias": np.ones(1)}
    head = {"lm_head.weight": start["wte.weight"].copy()}
    prefixed = {f"transformer.{name}": value for name, value in start.items()}
    for given in (start, prefixed, start | buffers, prefixed | buffers | head):
        assert list(transformers_io.canonical(given, TINY)) == list(start)
    assert _message(transformers_io.canonical, start | prefixed, TINY) == (
        "tensor 'wte.weight' is there twice, with and without 'transformer.'"
    )
    other = {"lm_head.weight": start["wte.weight"] + 1}
    assert _message(transformers_io.canonical, start | other, TINY) == (
        "lm_head.weight differs from wte.weight: the file is of an untied model, "
        "so set tie_embeddings (tie_word_embeddings in config.json) to false"
    )
    strange = {"h.0.mlp.attn_bias": np.ones(1), "h.0.other.bias": np.ones(1)}
    for name, value in strange.items():
        assert _message(transformers_io.canonical, start | {name: value}, TINY).startswith(
            f"unknown tensor {name!r}"
        )
    del start["wte.weight"]
    assert _message(transformers_io.canonical, start | head, TINY) == (
        "tensor 'wte.weight' is missing: expected shape (13, 8)"
    )


def test_a_folder_is_refused_in_whole_sentences(tmp_path):
    load = transformers_io.load
    assert _message(load, tmp_path) == (
        f"{tmp_path} has no config.json: give a folder that transformers saved"
    )
    config = tmp_path / "config.json"
    config.write_text("[]")
    assert _message(load, tmp_path) == f"{config} is not a JSON object: expected GPT-2's fields"
    config.write_text(json.dumps(transformers_io.config_to_transformers(TINY)))
    index = tmp_path / "model.safetensors.index.json"
    for name in ("", "..", "a/b", 3):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        assert _message(load, tmp_path) == f"{index} names {name!r}: expected a file beside it"
    index.write_text(json.dumps({"weight_map": 3}))
    assert _message(load, tmp_path) == (
        f"{index} is not a shard index: expected a 'weight_map' object"
    )
    assert _message(load, tmp_path / "none.safetensors", TINY).startswith(
        f"{tmp_path / 'none.safetensors'} does not exist"
    )
    config.unlink()
    config.mkdir()
    assert re.fullmatch(
        rf"{config} is not readable JSON: .*Is a directory.*", _message(load, tmp_path)
    )
