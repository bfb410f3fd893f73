"""Fixtures of the tests that decode."""

from pathlib import Path

import pytest

from tests.helpers.decoding import (
    CONFIG,
    NEW,
    make_program,
    texts_of,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(build, device):
    """A side's model and runtime."""

    def make(framework, dtype="float64", config=CONFIG):
        return build(framework, make_program(config), dtype, device)

    return make


@pytest.fixture
def texts(model):
    """Texts [B, new tokens] of a side."""

    def say(framework, prompts, asked, new_tokens=NEW, dtype="float64", config=CONFIG):
        made, runtime = model(framework, dtype, config)
        return texts_of(framework, made, prompts, asked, runtime, new_tokens)

    return say
