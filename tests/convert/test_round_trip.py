"""From PyTorch to JAX and back: every way to state a parameter, every dtype, tied tensors, sums."""

import json
import runpy
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import torch
from safetensors.torch import load_file, save_file

from tests.helpers.checkpoints_to_convert import PORTS, convert, same_files
from twingrad.convert import writer

DTYPES = ("float64", "float32", "bfloat16", "float16")


@pytest.fixture(scope="module")
def numbers():
    """Tensors of the pair ``all_words`` by PyTorch's names, in float64; tied ones once."""
    model = runpy.run_path(str(PORTS / "all_words.py"))["Net"]()
    random = np.random.default_rng(3)
    state = {
        name: torch.from_numpy(random.normal(size=x.shape)) if x.is_floating_point() else x
        for name, x in model.state_dict().items()
        if name != "tied"
    }
    state["scaled"] = torch.arange(7, dtype=torch.float64) / 8  # adding one to them rounds nothing
    state["steps"] = torch.tensor(2**40 + 1)
    return state


@pytest.fixture
def given(numbers, tmp_path):
    """A function that saves the numbers in a dtype, with changes, as safetensors."""

    def save(dtype="float32", **changes):
        state = {
            name: x.to(getattr(torch, dtype)) if x.is_floating_point() else x
            for name, x in numbers.items()
        }
        state |= changes
        save_file(state, tmp_path / "given.safetensors", metadata={"format": "pt"})
        return tmp_path / "given.safetensors"

    return save


def _there_and_back(weights, tmp_path, *options, source="jax"):
    there = convert("all_words", weights, "jax", tmp_path / "jax", *options)
    assert there.status == 0, there.err
    back = convert("all_words", tmp_path / source, "torch", tmp_path / "torch")
    assert back.status == 0, back.err
    return tmp_path / "torch" / "model.safetensors"


@pytest.mark.slow("float*", "*/orbax")
@pytest.mark.parametrize("source", ["jax", "jax/orbax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_to_lie_in_jax_is_undone_bit_for_bit(dtype, source, given, tmp_path):
    weights = given(dtype)
    assert same_files(weights, _there_and_back(weights, tmp_path, source=source))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_tensors_have_the_dtype_of_the_checkpoint(dtype, given, tmp_path):
    assert convert("all_words", given(dtype), "jax", tmp_path / "jax").status == 0
    made = load_file(tmp_path / "jax" / "model.safetensors")
    assert {str(x.dtype) for name, x in made.items() if name != "extra"} == {f"torch.{dtype}"}


@pytest.mark.slow
def test_a_dtype_that_jax_halves_by_default_is_said(given, tmp_path):
    sentence = "JAX reads float64 in half as many bits, unless jax_enable_x64 is set"
    assert sentence in convert("all_words", given("float64"), "jax", tmp_path / "wide").out
    assert sentence not in convert("all_words", given(), "jax", tmp_path / "narrow").out


@pytest.mark.slow
def test_jax_tensors_are_those_that_the_words_say(given, tmp_path):
    weights = given()
    assert convert("all_words", weights, "jax", tmp_path / "jax").status == 0
    old, new = load_file(weights), load_file(tmp_path / "jax" / "model.safetensors")
    q, k, v = old["qkv"].chunk(3)
    expected = {
        "q": q.T,
        "k": k.T,
        "v": v.T,
        "two": old["two"][:4],
        "sum": old["first"] + old["second"],
        "layers": torch.stack([old[f"layers.{n}"].T for n in range(3)]),
        "both": torch.cat([old["left"], old["right"]], 1),
        "window": old["window"].permute(2, 3, 1, 0).flip(0, 1),
        "heads": old["heads"].T.reshape(10, 2, 3),
        "halves": old["halves"][[0, 2, 4, 1, 3, 5]],
        "scaled": old["scaled"] + 1,
        "extra": torch.full((2,), 0.5),  # as the JAX model itself begins
    }
    assert new.keys() == expected.keys()
    for name, x in expected.items():
        assert torch.equal(new[name], x), name


@pytest.mark.slow
def test_what_is_said_of_sums_and_of_what_one_side_has_alone(given, tmp_path):
    done = convert("all_words", given(), "jax", tmp_path / "jax")
    assert "JAX has the sum of first, second: each is kept for the way back" in done.out
    assert "PyTorch alone has two, alone, steps: kept for the way back" in done.out
    assert "JAX alone has extra: written as its model makes them" in done.out
    kept = load_file(tmp_path / "jax" / "torch_only.safetensors")
    assert set(kept) == {"first", "second", "two", "alone", "steps"}


def test_a_sum_that_has_changed_goes_into_the_first_and_leaves_zeros(given, tmp_path):
    assert convert("all_words", given(), "jax", tmp_path / "jax").status == 0
    trained = load_file(tmp_path / "jax" / "model.safetensors")
    trained["sum"] += 1
    save_file(trained, tmp_path / "jax" / "model.safetensors")
    done = convert("all_words", tmp_path / "jax", "torch", tmp_path / "torch", check=True)
    assert done.status == 0, done.err
    assert "one sum for first + second: all of it is in first, and second is zero" in done.out
    back = load_file(tmp_path / "torch" / "model.safetensors")
    assert torch.equal(back["first"], trained["sum"])
    assert not back["second"].any()


@pytest.mark.slow
def test_both_ways_end_in_models_that_compare_equal(given, tmp_path):
    """Sums are rounded to float32, which a comparison in float64 must not take for a mistake."""
    done = convert("all_words", given(), "jax", tmp_path / "jax", check=True)
    assert done.status == 0, done.err
    assert "every gate holds" in done.out
    done = convert("all_words", tmp_path / "jax", "torch", tmp_path / "torch", check=True)
    assert done.status == 0, done.err
    assert "every gate holds" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "name"),
    [
        *(("jax", name) for name in ("q", "sum", "scaled", "both")),
        *(("torch", name) for name in ("qkv", "first", "scaled", "left")),
    ],
)
def test_the_check_compares_the_numbers_of_the_files(to, name, given, tmp_path, monkeypatch):
    """A conversion with a mistake in one tensor is written, and found unequal."""
    weights = given()
    if to == "torch":
        assert convert("all_words", weights, "jax", tmp_path / "jax").status == 0
        weights = tmp_path / "jax"
    write = writer.write_safetensors

    def wrong(path, outputs, metadata=None):
        if path.name != "model.safetensors":
            return write(path, outputs, metadata)
        changed = [replace(o, make=lambda o=o: o.make() * 2) for o in outputs if o.name == name]
        assert len(changed) == 1
        kept = [output for output in outputs if output.name != name]
        return write(path, [*kept, *changed], metadata)

    monkeypatch.setattr(writer, "write_safetensors", wrong)
    done = convert("all_words", weights, to, tmp_path / "out", check=True)
    assert done.status == 1, done.err
    assert "Not equal" in done.out


@pytest.mark.slow
def test_tied_tensors_given_twice_are_written_once(numbers, tmp_path):
    state = dict(numbers)
    state["tied"] = state["halves"]
    torch.save(state, tmp_path / "given.pt")
    back = load_file(_there_and_back(tmp_path / "given.pt", tmp_path))
    assert back.keys() == numbers.keys()
    for name, x in numbers.items():
        assert torch.equal(back[name], x), name


@pytest.mark.slow
def test_a_tied_tensor_given_by_its_other_name_is_found(numbers, tmp_path):
    state = {"tied" if name == "halves" else name: x for name, x in numbers.items()}
    torch.save(state, tmp_path / "given.pt")
    back = load_file(_there_and_back(tmp_path / "given.pt", tmp_path))
    assert torch.equal(back["halves"], numbers["halves"])


def test_a_checkpoint_in_shards_is_one(numbers, tmp_path):
    folder, names = tmp_path / "given", sorted(numbers)
    folder.mkdir()
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({name: numbers[name] for name in members}, folder / file)
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    back = load_file(_there_and_back(folder, tmp_path))
    for name, x in numbers.items():
        assert torch.equal(back[name], x), name


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_a_pickle_of_tensors_is_read(key, numbers, tmp_path):
    content = numbers if key is None else {key: numbers, "epoch": 3}
    torch.save(content, tmp_path / "given.bin")
    back = load_file(_there_and_back(tmp_path / "given.bin", tmp_path))
    for name, x in numbers.items():
        assert torch.equal(back[name], x), name


def test_a_wider_dtype_loses_nothing_and_its_way_back_is_asked_for(given, tmp_path):
    weights = given("bfloat16")
    wide = _there_and_back(weights, tmp_path, "--dtype", "float32")
    for name, x in load_file(weights).items():
        expected = x.to(torch.float32) if x.is_floating_point() else x
        assert torch.equal(load_file(wide)[name], expected), name
    options = ("--dtype", "bfloat16", "--lossy")
    done = convert("all_words", tmp_path / "jax", "torch", tmp_path / "narrow", *options)
    assert done.status == 0, done.err
    assert same_files(weights, tmp_path / "narrow" / "model.safetensors")


def test_lossy_rounds_to_the_nearest_and_the_models_still_compare(given, tmp_path):
    weights, options = given(), ("--dtype", "bfloat16", "--lossy")
    done = convert("all_words", weights, "jax", tmp_path / "jax", *options, check=True)
    assert done.status == 0, done.err
    made = load_file(tmp_path / "jax" / "model.safetensors")
    old = load_file(weights)["halves"][[0, 2, 4, 1, 3, 5]]
    assert torch.equal(made["halves"], old.to(torch.bfloat16))
