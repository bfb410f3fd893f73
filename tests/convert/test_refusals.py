"""What is not converted: refused by name in a sentence, with nothing written."""

import json
import os
import runpy

import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import torch
from safetensors.torch import load_file, save_file

from tests.helpers.checkpoints_to_convert import PORTS, convert
from twingrad.convert import orbax_folder, writer


@pytest.fixture
def state():
    """A whole checkpoint of the pair ``all_words`` in float32, tied tensors once."""
    torch.manual_seed(2)
    model = runpy.run_path(str(PORTS / "all_words.py"))["Net"]()
    tensors = {name: x for name, x in model.state_dict().items() if name != "tied"}
    tensors["scaled"] = torch.arange(7) / 8
    return tensors


@pytest.fixture
def folder(tmp_path):
    """A folder that holds the checkpoints alone, so that anything else is what was written."""
    (tmp_path / "given").mkdir()
    (tmp_path / "written").mkdir()
    return tmp_path


def refused(folder, weights, to="jax", *options, port="all_words"):
    """The sentence of a call that is refused; it is one, and nothing is written."""
    done = convert(port, weights, to, folder / "written" / "out", *options, check=True)
    assert done.status == 2, done.out
    _, told, sentence = done.err.rpartition("twingrad: ")  # after the stages of the work
    assert told, done.err
    assert "Traceback" not in done.err
    assert list((folder / "written").iterdir()) == []
    return sentence


def saved(folder, state):
    """The file of ``state``."""
    save_file(state, folder / "given" / "model.safetensors")
    return folder / "given" / "model.safetensors"


def converted(folder, state):
    """The folder that ``--to jax`` makes of ``state``."""
    done = convert("all_words", saved(folder, state), "jax", folder / "given" / "jax")
    assert done.status == 0, done.err
    return folder / "given" / "jax"


def test_a_tensor_that_the_model_has_not(folder, state):
    state["extra.bias"] = torch.ones(2)
    assert "holds extra.bias, which the PyTorch model of the pair has not" in refused(
        folder, saved(folder, state)
    )


def test_a_tensor_that_the_checkpoint_lacks(folder, state):
    del state["heads"]
    assert "lacks heads, which the map needs" in refused(folder, saved(folder, state))


def test_a_wrong_shape_is_named_with_the_right_one(folder, state):
    state["heads"] = torch.ones(10, 6)
    text = refused(folder, saved(folder, state))
    assert "heads has shape (10, 6) in" in text
    assert "and (6, 10) in the PyTorch model" in text


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"),
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("float16", "bfloat16"),
        ("bfloat16", "float16"),
    ],
)
def test_a_dtype_that_cannot_hold_the_numbers(given, wanted, folder, state):
    state = {
        n: x.to(getattr(torch, given)) if x.is_floating_point() else x for n, x in state.items()
    }
    text = refused(folder, saved(folder, state), "jax", "--dtype", wanted)
    assert f"is {given}, and {wanted} cannot hold all of its numbers" in text
    assert "--lossy" in text


def test_tensors_of_two_dtypes_that_go_into_one(folder, state):
    state["layers.1"] = state["layers.1"].to(torch.bfloat16)
    text = refused(folder, saved(folder, state))
    assert "layers is made of layers.0, which is float32, and layers.1, which is bfloat16" in text


@pytest.mark.slow
def test_functions_that_do_not_give_the_numbers_back_once_rounded(folder, state):
    state["scaled"] = torch.full((7,), 1.0) / 3
    text = refused(folder, saved(folder, state))
    assert "scaled: the functions of its map do not give the same float32 numbers back" in text
    done = convert(
        "all_words", saved(folder, state), "jax", folder / "lossy", "--lossy", check=True
    )
    assert done.status == 0, done.err


def test_tied_tensors_that_differ(folder, state):
    state["tied"] = state["halves"] + 1
    text = refused(folder, saved(folder, state))
    assert "halves and tied are one tensor in the PyTorch model and differ" in text


def test_a_layout_that_stays_open(folder):
    save_file({"kernel": torch.ones(4, 4)}, folder / "given" / "square.safetensors")
    text = refused(folder, folder / "given" / "square.safetensors", port="square")
    assert "1 tensors could lie in several ways by their shapes" in text
    assert '"kernel": To("kernel")' in text


@pytest.mark.slow
def test_a_jax_tensor_that_is_missing_or_unknown_or_of_another_shape(folder, state):
    made = converted(folder, state) / "model.safetensors"
    tensors = load_file(made)
    cases = {
        "lacks heads": {n: x for n, x in tensors.items() if n != "heads"},
        "holds other, which the JAX model": tensors | {"other": torch.ones(1)},
        "heads has shape (10, 6) in": tensors | {"heads": torch.ones(10, 6)},
    }
    for sentence, content in cases.items():
        save_file(content, made)
        assert sentence in refused(folder, made, "torch"), sentence


def test_what_pytorch_alone_has_is_not_made_up(folder, state):
    made = converted(folder, state)
    os.unlink(made / "torch_only.safetensors")
    for options in ((), ("--dtype", "float64")):
        text = refused(folder, made, "torch", *options)
        assert "lacks two, alone, which PyTorch alone has" in text


def test_a_pickle_of_more_than_tensors_is_not_run(folder):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(folder / "written" / "harm"),)

    torch.save({"heads": Harmful()}, folder / "given" / "model.pt")
    text = refused(folder, folder / "given" / "model.pt")
    assert "holds more than tensors, which is code to run and is not read" in text


def test_a_pickle_of_numbers_beside_tensors(folder, state):
    torch.save(state | {"epoch": 3}, folder / "given" / "model.pt")
    assert "holds epoch, no tensors" in refused(folder, folder / "given" / "model.pt")


def test_a_pickle_in_the_old_format(folder, state):
    path = folder / "given" / "model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert "has the format of PyTorch before 1.6" in refused(folder, path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("kept", [0, 7, 300])
def test_a_file_that_is_cut_off(name, kept, folder, state):
    path = folder / "given" / name
    save_file(state, path) if name.endswith("s") else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{name} is no whole checkpoint" in refused(folder, path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is no index of shards"),
        ("{}", "is no index of shards"),
        ('{"weight_map": {"a": 3}}', "names the shard 3"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "a shard lies beside its index"),
        ('{"weight_map": {"a": "none.safetensors"}}', "there is no checkpoint"),
    ],
)
def test_an_index_that_is_none(content, sentence, folder):
    path = folder / "given" / "model.safetensors.index.json"
    path.write_text(content)
    assert sentence in refused(folder, path)


def test_a_tensor_in_two_shards(folder, state):
    for name in ("a", "b"):
        save_file(state, folder / "given" / f"{name}.safetensors")
    index = {"weight_map": {"heads": "a.safetensors", "window": "b.safetensors"}}
    path = folder / "given" / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert "is in a.safetensors and in b.safetensors" in refused(folder, path)


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_no_checkpoint(to, folder):
    given = folder / "given"
    (given / "notes.txt").write_text("none")
    assert "there is no checkpoint" in refused(folder, given / "nothing.safetensors", to)
    assert "notes.txt is no" in refused(folder, given / "notes.txt", to)
    assert "holds no" in refused(folder, given, to) or to == "jax"
    (given / "_METADATA").write_text("{}")
    if to == "torch":
        assert "is no Orbax checkpoint of one tree" in refused(folder, given, to)


def test_a_folder_that_is_not_empty_is_left_alone(folder, state):
    weights, out = saved(folder, state), folder / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    done = convert("all_words", weights, "jax", out)
    assert done.status == 2
    assert f"{out} is not empty" in done.err
    assert [path.name for path in out.iterdir()] == ["mine"]
    done = convert("all_words", weights, "jax", out / "mine")
    assert "is a file: name a folder" in done.err
    done = convert("all_words", weights, "jax", folder / "no" / "out")
    assert "does not exist; create it" in done.err


def test_an_empty_folder_is_filled(folder, state):
    out = folder / "out"
    out.mkdir()
    assert convert("all_words", saved(folder, state), "jax", out).status == 0
    assert {path.name for path in out.iterdir()} == {
        *("model.safetensors", "orbax", "torch_only.safetensors")
    }


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("what", ["write_orbax", "write_safetensors"])
def test_a_conversion_that_is_interrupted_leaves_nothing(what, raised, folder, state, monkeypatch):
    weights = saved(folder, state)

    def fail(path, *arguments):
        path.write_bytes(b"half")
        raise raised

    monkeypatch.setattr(orbax_folder if what == "write_orbax" else writer, what, fail)
    done = convert("all_words", weights, "jax", folder / "written" / "out")
    assert done.status == (130 if isinstance(raised, KeyboardInterrupt) else 2)
    assert list((folder / "written").iterdir()) == []


def test_without_a_package_that_it_needs_it_says_what_to_install(folder, state, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "safetensors" else find(name)
    )
    text = refused(folder, folder / "given")
    assert "safetensors is not installed: pip install" in text
    assert "convert" in text
