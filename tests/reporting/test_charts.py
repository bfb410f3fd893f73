"""Scales of charts hold their values between round ticks."""

import pytest

from bench.reporting import charts


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.2, 5.5], [0.00012, 0.00013], [7.0, 7.0], [0.0]])
@pytest.mark.parametrize("zero", [False, True])
def test_an_even_scale_holds_its_values_and_has_few_round_ticks(values, zero):
    scale = charts.even(values, 0, 100, zero=zero)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert 2 <= len(scale.ticks) <= 9
    assert (scale.at(scale.low), scale.at(scale.high)) == (0, 100)
    assert not zero or scale.low <= 0


@pytest.mark.parametrize("values", [[1.0], [1e-7, 3e-5], [0.02, 900.0]])
def test_a_logarithmic_scale_goes_from_one_power_of_ten_to_another(values):
    scale = charts.decades(values, 300, 0)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert (scale.at(scale.low), scale.at(scale.high)) == (300, 0)
    assert list(scale.ticks) == sorted(scale.ticks)
