"""The learning rate: one pure function of the step, the same number on both sides."""

import math

import numpy as np
import pytest

from shared.config import AdamWConfig, SGDConfig
from shared.schedule import learning_rate

CONFIG = AdamWConfig(learning_rate=3e-3, min_learning_rate=3e-4, warmup_steps=4, total_steps=20)
EVERY_STEP = range(CONFIG.total_steps + 5)


def test_sgd_has_one_rate_for_every_step():
    for step in EVERY_STEP:
        assert learning_rate(step, SGDConfig(learning_rate=0.25)) == 0.25, step


def test_warm_up_is_linear_and_its_first_step_moves():
    climb = [learning_rate(step, CONFIG) for step in range(CONFIG.warmup_steps)]
    assert climb == [CONFIG.learning_rate * (n + 1) / CONFIG.warmup_steps for n in range(4)]
    assert climb[0] > 0


def test_the_peak_stands_at_the_end_of_warm_up():
    rates = [float(learning_rate(step, CONFIG)) for step in EVERY_STEP]
    assert max(rates) == rates[CONFIG.warmup_steps] == CONFIG.learning_rate


def test_the_cosine_falls_and_is_halfway_in_the_middle():
    middle = (CONFIG.warmup_steps + CONFIG.total_steps) // 2
    half = (CONFIG.learning_rate + CONFIG.min_learning_rate) / 2
    assert math.isclose(learning_rate(middle, CONFIG), half)
    falling = [learning_rate(step, CONFIG) for step in range(4, CONFIG.total_steps + 1)]
    for step in range(len(falling) - 1):
        assert falling[step] > falling[step + 1], step


def test_the_cosine_ends_at_the_minimum_and_stays_there():
    for step in (CONFIG.total_steps, CONFIG.total_steps + 1, 10 * CONFIG.total_steps):
        assert learning_rate(step, CONFIG) == CONFIG.min_learning_rate, step


def test_without_warm_up_the_first_step_is_at_the_peak():
    config = AdamWConfig(warmup_steps=0)
    assert learning_rate(0, config) == config.learning_rate


def test_the_rate_is_float64_and_a_pure_function():
    forward = [learning_rate(step, CONFIG) for step in EVERY_STEP]
    backward = [learning_rate(step, CONFIG) for step in reversed(EVERY_STEP)][::-1]
    assert forward == backward
    assert all(np.asarray(rate).dtype == np.float64 for rate in forward)
    assert np.array_equal(learning_rate(np.arange(len(forward)), CONFIG), forward)


def test_jax_computes_the_same_rate_from_a_traced_int32_step(assert_same64):
    jax = pytest.importorskip("jax", reason="the traced step is JAX's")
    pytest.importorskip("flax", reason="the JAX side needs Flax")
    from jax_impl import runtime

    runtime.configure("float64", "cpu")
    traced = jax.jit(lambda step: learning_rate(step, CONFIG, jax.numpy))
    ours = {str(step): np.asarray(traced(np.int32(step))) for step in EVERY_STEP}
    assert_same64(ours, {str(step): learning_rate(step, CONFIG) for step in EVERY_STEP})
