"""Every row of "defaults that differ": the defaults do differ, and the advice ends it."""

import functools
import re

import pytest

from bench.harness import frameworks, records
from bench.studies import framework_defaults
from twingrad.phrases import book

if not all(frameworks.installed(name) for name in frameworks.NAMES):
    pytest.skip("a difference has two sides", allow_module_level=True)

each_row = pytest.mark.parametrize(
    "difference", framework_defaults.DIFFERENCES, ids=lambda measure: measure.__name__
)


# Measured with float32's rounding, which is another one on another processor.
OF_ROUNDING = {"fast_variance": 0.5}
# The phrases whose notes name what happens by default, and the row that measures it; or why none.
OF_PHRASES = {
    "grid": "the axes of meshgrid",
    "variance": "var and std",
    "buckets": "the bucket of a number on an edge",
    "past_the_end": "writing out of range",
    "clip": "the gradient of clip at its bound",
    "norms": "the gradient of a norm at 0",
    "safe_norm": "the gradient of a norm at 0",
    "ranges": "Python's integers",
    "defaults_of_numbers": "Python's integers",
    "cast": "a float64 array from NumPy",
    "unused_input": "the gradient of a parameter that is not used",
    "initialise": "a Linear's weights at the start",
    "embedding": "an Embedding's rows at the start",
    "convolution": "padding of a convolution",
    "pooling": "strides of pooling",
    "resize": "the nearest pixel",
    "layer_norm": "LayerNorm's epsilon",
    "gelu": "GELU",
    "batch_norm": "BatchNorm's momentum",
    "cross_entropy": "what a cross-entropy returns",
    "binary": "what a cross-entropy returns",
    "huber": "what a cross-entropy returns",
    "divergence": "the mean of a KL divergence",
    "similarity": "the cosine similarity of a vector of zeros",
    "training_step": "AdamW's weight decay",
    "clip_by_norm": "clipping by the joint norm",
}
NO_ROW = {
    "one_hot": "the number of classes is guessed by PyTorch alone",
    "same_dtype": "the default device is the one that computes",
    "normal_numbers": "both draw float32",
    "several_arguments": "PyTorch differentiates a tensor and no argument",
    "gradient_penalty": "JAX has no graph to keep",
    "no_decay_of_biases": "both decay everything",
    "dropout": "it is the name of a stream",
    "save_and_load": "it is a guard against pickles",
    "whole_numbers": "both leave the upper end out",
    "count": "what is left out is no argument",
    "different_in_each_example": "PyTorch refuses where JAX has keys",
    "lower_matmul_precision": "of a GPU: the page names it below the table",
}
SAYS_SO = re.compile(
    r"\bdefaults?\b|left out|unless .{0,30}(otherwise|says|is set)|if nothing is said"
)


@functools.cache
def _measured(difference):
    return framework_defaults.in_float64(difference)


def _recorded():
    return {row["topic"]: row for row in records.load("defaults-cpu")["rows"]}


@pytest.mark.slow("convolution", "adamw", "batch_norm", "gelu", "saturated")
@each_row
def test_the_defaults_differ_and_the_advice_ends_it(difference):
    row = _measured(difference)
    assert row.torch != row.jax
    assert row.size > 1e-5, row
    assert row.left < 32 * 2.0**-24, row  # of rounding, where a row is of float32
    assert row.left < row.size / 30, row


@pytest.mark.slow("convolution", "adamw", "batch_norm", "gelu", "saturated")
@each_row
def test_a_row_of_the_page_is_what_is_measured_here(difference):
    row = _measured(difference)
    recorded = _recorded()[row.topic]
    if difference.__name__ not in OF_ROUNDING:
        assert row.effect == recorded["effect"]
    assert (row.torch, row.jax, row.how) == tuple(recorded[key] for key in ("torch", "jax", "how"))
    rel = OF_ROUNDING.get(difference.__name__, 1e-3)
    assert row.size == pytest.approx(recorded["size"], rel=rel)


def test_every_trap_is_named_once_and_stands_on_the_page():
    topics = [row["topic"] for row in records.load("defaults-cpu")["rows"]]
    assert len(set(topics)) == len(topics) == len(framework_defaults.DIFFERENCES)
    page = (records.ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    for topic in topics:
        assert page.count(f"\n| {topic} |") == 1


def test_every_phrase_that_names_a_default_has_a_row_that_measures_it():
    phrases = {phrase.name: phrase for _, phrase in book.entries()}
    saying = {name for name, phrase in phrases.items() if SAYS_SO.search(phrase.differs)}
    assert saying - OF_PHRASES.keys() - NO_ROW.keys() == set()
    assert not OF_PHRASES.keys() & NO_ROW.keys()
    assert OF_PHRASES.keys() | NO_ROW.keys() <= phrases.keys()
    assert set(OF_PHRASES.values()) <= _recorded().keys()
