"""Every small configuration of GPT-2 passes the float64 gate."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness import programs
from bench.parity.comparison import Comparison
from shared.config import GPTConfig
from tests.helpers.fuzz import EQUAL, EXAMPLES, settings_of


@st.composite
def configurations(draw: Any) -> tuple[GPTConfig, tuple[int, int]]:
    """A small GPT-2 of any proportions, and how many sequences of what length it is given."""
    heads = draw(st.integers(1, 5))
    # LayerNorm makes 0 of one feature and ±1 of two, whatever they are: its gradient is rounding
    # times 1/sqrt(epsilon), and a gate on relative error has nothing to hold on to.
    width = draw(st.integers(1, 9).filter(lambda width: heads * width > 2))
    config = GPTConfig(
        vocab_size=draw(st.integers(2, 90)),
        context_length=draw(st.integers(1, 24)),
        emb_dim=heads * width,
        n_heads=heads,
        n_layers=draw(st.integers(1, 3)),
        drop_rate=0.0,
        qkv_bias=draw(st.booleans()),
        tie_embeddings=draw(st.booleans()),
    )
    return config, (draw(st.integers(1, 4)), draw(st.integers(1, config.context_length)))


@pytest.mark.slow
@settings_of(EXAMPLES // 50 or 3)
@given(drawn=configurations(), seed=st.integers(0, 2**31))
def test_every_configuration_passes_the_float64_gate(frameworks, drawn, seed):
    config, size = drawn
    program = programs.gpt2(config=config, size=size, seed=seed, steps=1)
    outcome = Comparison(program=program, frameworks=frameworks, device="cpu").run("float64")
    failed = [(t.name, t.error_ratio) for gate in outcome.gates for t in gate.tensors if not t.ok]
    assert outcome.ok, f"{config} on {size}: {failed[:3]}"
    EQUAL.append((config, size, seed))
