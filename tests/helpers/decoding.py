"""A small GPT-2 to decode with, its prompts, and a tokenizer of letters."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import programs
from shared import params
from shared.config import GPTConfig
from shared.sampling import Sampling
from shared.tokenizer import Tokenizer

CONFIG = GPTConfig(
    vocab_size=97, context_length=24, emb_dim=40, n_heads=5, n_layers=2, qkv_bias=True
)
BARE = replace(CONFIG, qkv_bias=False, tie_embeddings=False)
PROMPTS = [[5], [17, 3, 88, 3], [96, 0, 41, 2, 60, 33, 7]]
NEW = 16
GREEDY = Sampling(temperature=0.0)
each_config = pytest.mark.parametrize(
    "config", [CONFIG, BARE], ids=["tied, with biases", "untied, without"]
)


@functools.cache
def make_program(config=CONFIG):
    """A model that does not say the same token again and again: positions count for much."""
    start = {}
    for name, shape in params.gpt2_shapes(config).items():
        drawn = np.random.default_rng([len(start), 7]).standard_normal(shape)
        drawn *= 1.0 if name.startswith("wpe") else 0.3
        start[name] = drawn + (".ln_" in f".{name}" and name.endswith("weight"))
    return programs.gpt2(config=config, start=start, steps=1)


def texts_of(framework, model, prompts, asked, runtime, new_tokens=NEW):
    steps = framework.generate.generate(model, prompts, new_tokens, asked, runtime)
    return np.stack(list(steps), axis=1)


class Letters(Tokenizer):
    """An id for each letter, and the two bytes of one that has two."""

    def __init__(self, vocab_size=CONFIG.vocab_size):
        self.pieces = [bytes([32 + i]) for i in range(vocab_size - 2)] + [b"\xc3", b"\xa9"]

    def _encode(self, text):
        return [letter - 32 for letter in text.encode()]

    def to_json(self):
        return {}


def whole_forward(framework, model, runtime):
    """The whole forward pass over tokens filled up to the context length, compiled once."""
    if framework.name == "jax":
        import jax
        from flax import nnx

        graphdef, state = nnx.split(model)
        compiled = jax.jit(lambda state, tokens: nnx.merge(graphdef, state)(tokens))
        call = functools.partial(compiled, state)
    else:
        call = model

    def forward(tokens):
        padded = np.zeros((len(tokens), model.wpe.num_embeddings), np.int64)
        padded[:, : len(tokens[0])] = tokens
        return framework.params.to_numpy(call(*runtime.batch(padded)))

    return forward
