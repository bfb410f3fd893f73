"""What a model of many layers costs: twice as much for twice as many."""

import itertools

import pytest

from shared import params, transformers_io
from shared.config import GPTConfig
from tests.helpers import growth

LAYERS = {"names": 5000, "export": 800, "load": 800}


def _work(what, layers, folder):
    """``what`` for a model of ``layers``, to be called any number of times."""
    config = GPTConfig(vocab_size=16, context_length=4, emb_dim=1, n_heads=1, n_layers=layers)
    if what == "names":
        return lambda: params.gpt2_shapes(config)
    made = params.init_gpt2(config)
    if what == "export":
        number = itertools.count()
        return lambda: transformers_io.save(folder / f"{layers}-{next(number)}", config, made)
    transformers_io.save(folder / str(layers), config, made)
    return lambda: transformers_io.load(folder / str(layers))


@pytest.mark.slow("load", "export")
@pytest.mark.attack("processes")
@pytest.mark.parametrize("what", LAYERS)
def test_twice_the_layers_take_twice_as_long(tmp_path, what):
    once, twice = (_work(what, many * LAYERS[what], tmp_path) for many in (1, 2))
    growth.check_linear(once, twice)


def test_what_is_quadratic_is_not_taken_for_linear():
    def work(number):
        names = [f"layers.{i}" for i in range(number)]
        return lambda: [name in names for name in names]

    with pytest.raises(AssertionError, match="more than linear"):
        growth.check_linear(work(400), work(800))
