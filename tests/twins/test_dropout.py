"""Matched dropout: the same units fall on both sides, and it is dropout."""

import numpy as np
import pytest

from bench.harness import programs
from shared import threefry

RATE = 0.3
SHAPES = [(7,), (3, 5, 8), (2, 4, 9, 9), (1000, 70)]


def _layer(side, key):
    """A matched layer in training, and how NumPy gets into it and out again."""
    runtime = side.runtime.configure("float32", "cpu")
    layer = side.dropout.MatchedDropout(RATE)
    if side.name == "torch":
        layer.train()
        layer.key.copy_(runtime.batch(key.view(np.int32))[0])
    else:
        layer.deterministic = False
        layer.key.set_value(runtime.batch(key.view(np.int32))[0].view("uint32"))
    return lambda x: side.params.to_numpy(layer(runtime.batch(x)[0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_units_that_fall_are_those_of_the_generator(side, shape):
    key = threefry.fold_in(threefry.key(1), 2)
    dropped = threefry.bits(key, int(np.prod(shape))) >> 8 < threefry.threshold(RATE)
    made = _layer(side, key)(np.ones(shape, np.float32))
    assert ((made == 0) == dropped.reshape(shape)).all()


def test_what_is_kept_is_scaled_so_that_the_mean_stays(side):
    made = _layer(side, threefry.key(4))(np.ones((500, 400), np.float32))
    assert set(np.unique(made)) == {np.float32(0), np.float32(1) / np.float32(1 - RATE)}
    assert made.mean() == pytest.approx(1, abs=0.01)


def test_another_key_drops_other_units(side):
    x = np.ones((50, 40), np.float32)
    first, second = (_layer(side, threefry.fold_in(threefry.key(0), i))(x) for i in (1, 2))
    expected = 2 * RATE * (1 - RATE)  # one of two independent draws, not both
    assert ((first == 0) != (second == 0)).mean() == pytest.approx(expected, abs=0.05)


def test_a_gpus_way_to_the_bits_leads_to_the_same(sides, monkeypatch):
    import torch

    torch_side = sides[0]
    key = torch.from_numpy(threefry.fold_in(threefry.key(9), 9).view(np.int32))
    cpu = torch.device("cpu")
    by_numpy = torch_side.dropout._bits(key, 5000, cpu)
    # What keeps a CPU on NumPy's way is switched off: PyTorch's own operations run, as on a GPU.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(torch_side.dropout._bits(key, 5000, cpu), by_numpy)


@pytest.mark.parametrize("preset", ["tiny", "124m"])
def test_the_sides_name_the_same_layers_in_the_same_order(sides, preset):
    program = programs.gpt2(preset)
    names = []
    for side in sides:
        if side.name == "torch":
            import torch

            with torch.device("meta"):
                model = program.make(side)
        else:
            from flax import nnx

            model = nnx.eval_shape(lambda: program.make(side))  # noqa: B023
        names.append(side.dropout.sites(model))
    ours, theirs = names
    assert ours == theirs
    assert len(ours) == 1 + 3 * program.config.n_layers


def test_matching_replaces_every_layer_and_keeps_its_rate(side, build):
    program = programs.gpt2("tiny")
    model, _ = build(side, program, "float32", "cpu")
    side.dropout.match(model)
    layers = [model.drop, *(m for b in model.h for m in (b.attn.attn_dropout, b.mlp.dropout))]
    for layer in layers:
        assert isinstance(layer, side.dropout.MatchedDropout)
        assert getattr(layer, "p" if side.name == "torch" else "rate") == 0.1
