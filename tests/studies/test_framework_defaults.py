"""Every row of "defaults that differ": the defaults do differ, and the advice ends it."""

import pytest

from bench.harness import frameworks
from bench.studies import framework_defaults

if not all(frameworks.installed(name) for name in frameworks.NAMES):
    pytest.skip("a difference has two sides", allow_module_level=True)

each_row = pytest.mark.parametrize(
    "difference", framework_defaults.DIFFERENCES, ids=lambda measure: measure.__name__
)


@pytest.mark.slow("convolution", "adamw", "batch_norm", "gelu", "saturated")
@each_row
def test_the_defaults_differ_and_the_advice_ends_it(difference):
    row = framework_defaults.in_float64(difference)
    assert row.torch != row.jax
    assert row.size > 1e-5, row
    assert row.left < 32 * 2.0**-24, row  # of rounding, where a row is of float32
    assert row.left < row.size / 30, row


def test_every_trap_is_named_once():
    topics = [
        framework_defaults.in_float64(measure).topic for measure in framework_defaults.DIFFERENCES
    ]
    assert len(set(topics)) == len(topics)
