"""Matched dropout: the same units fall on both sides, and it is dropout."""

import numpy as np
import pytest

from bench.harness import programs
from shared import threefry

RATE = 0.3
SHAPES = [(7,), (3, 5, 8), (2, 4, 9, 9), (1000, 70)]


def _layer(framework, key):
    """A matched layer in training, and how NumPy gets into it and out again."""
    runtime = framework.runtime.configure("float32", "cpu")
    layer = framework.dropout.MatchedDropout(RATE)
    if framework.name == "torch":
        layer.train()
        layer.key.copy_(runtime.batch(key.view(np.int32))[0])
    else:
        layer.deterministic = False
        layer.key.set_value(runtime.batch(key.view(np.int32))[0].view("uint32"))
    return lambda x: framework.params.to_numpy(layer(runtime.batch(x)[0]))


@pytest.mark.slow("jax-shape1", "jax-shape3", "jax-shape2")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_units_that_fall_are_those_of_the_generator(framework, shape):
    key = threefry.fold_in(threefry.key(1), 2)
    dropped = threefry.bits(key, int(np.prod(shape))) >> 8 < threefry.threshold(RATE)
    made = _layer(framework, key)(np.ones(shape, np.float32))
    assert ((made == 0) == dropped.reshape(shape)).all()


def test_what_is_kept_is_scaled_so_that_the_mean_stays(framework):
    made = _layer(framework, threefry.key(4))(np.ones((500, 400), np.float32))
    assert set(np.unique(made)) == {np.float32(0), np.float32(1) / np.float32(1 - RATE)}
    assert made.mean() == pytest.approx(1, abs=0.01)


def test_another_key_drops_other_units(framework):
    x = np.ones((50, 40), np.float32)
    first, second = (_layer(framework, threefry.fold_in(threefry.key(0), i))(x) for i in (1, 2))
    expected = 2 * RATE * (1 - RATE)  # one of two independent draws, not both
    assert ((first == 0) != (second == 0)).mean() == pytest.approx(expected, abs=0.05)


def test_a_gpus_way_to_the_bits_leads_to_the_same(frameworks, monkeypatch):
    import torch

    torch_side = frameworks[0]
    key = torch.from_numpy(threefry.fold_in(threefry.key(9), 9).view(np.int32))
    cpu = torch.device("cpu")
    by_numpy = torch_side.dropout._bits(key, 5000, cpu)
    # What keeps a CPU on NumPy's way is switched off: PyTorch's own operations run, as on a GPU.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(torch_side.dropout._bits(key, 5000, cpu), by_numpy)


@pytest.mark.slow("124m")
@pytest.mark.parametrize("preset", ["tiny", "124m"])
def test_the_sides_name_the_same_layers_in_the_same_order(frameworks, preset):
    program = programs.gpt2(preset)
    names = []
    for framework in frameworks:
        if framework.name == "torch":
            import torch

            with torch.device("meta"):
                model = program.make(framework)
        else:
            from flax import nnx

            model = nnx.eval_shape(lambda: program.make(framework))  # noqa: B023
        names.append(framework.dropout.sites(model))
    ours, theirs = names
    assert ours == theirs
    assert len(ours) == 1 + 3 * program.config.n_layers


def test_matching_replaces_every_layer_and_keeps_its_rate(framework, build):
    program = programs.gpt2("tiny")
    model, _ = build(framework, program, "float32", "cpu")
    framework.dropout.match(model)
    layers = [model.drop, *(m for b in model.h for m in (b.attn.attn_dropout, b.mlp.dropout))]
    for layer in layers:
        assert isinstance(layer, framework.dropout.MatchedDropout)
        assert getattr(layer, "p" if framework.name == "torch" else "rate") == 0.1
