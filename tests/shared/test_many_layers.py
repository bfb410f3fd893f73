"""What a model of many layers costs: twice as much for twice as many."""

import time

import pytest

from shared import params, transformers_io
from shared.config import GPTConfig

# The best of three times of the processor varies by less; what is quadratic takes four times.
MOST = 3.0
LAYERS = {"names": 5000, "export": 800, "load": 800}


def _config(layers):
    return GPTConfig(vocab_size=16, context_length=4, emb_dim=1, n_heads=1, n_layers=layers)


@pytest.mark.slow("load")
@pytest.mark.attack("processes")
@pytest.mark.parametrize("what", LAYERS)
def test_twice_the_layers_take_twice_as_long(tmp_path, what):
    found = []
    for layers in (LAYERS[what], 2 * LAYERS[what]):
        config = _config(layers)
        made = params.init_gpt2(config) if what != "names" else {}
        if what == "load":
            transformers_io.save(tmp_path / str(layers), config, made)
        tried = []
        for number in range(3):
            began = time.process_time()
            if what == "names":
                params.gpt2_shapes(config)
            elif what == "export":
                transformers_io.save(tmp_path / f"{layers}-{number}", config, made)
            else:
                transformers_io.load(tmp_path / str(layers))
            tried.append(time.process_time() - began)
        found.append(min(tried))
    assert found[1] < MOST * found[0], f"{found} s: more than linear in the layers"
