"""The tables of comparisons: every error that a gate measured, and no other, at any width."""

import pytest

from bench.harness.records import load
from bench.parity import demo_tables, summary
from bench.parity.demos import (
    POINT,
    Accumulation,
    Demonstrations,
    GradientCost,
    LossAndGradient,
    NeuronNumbers,
    ParameterShare,
    SaturatedPoint,
    StepError,
    StepSizes,
)
from tests.helpers.consoles import assert_fits, shown
from twingrad import outcome_tables
from twingrad.outcome import measured_errors, outcomes


@pytest.fixture(scope="module")
def compared():
    return outcomes(load("compare-cpu").as_object())


def test_the_tables_of_every_gate_fit(compared):
    assert_fits(lambda console: outcome_tables.outcomes(console, "all programs", compared))


def test_the_summary_of_programs_fits(compared):
    assert_fits(lambda console: summary.show(console, compared))


def test_the_tables_of_single_tensors_fit(compared):
    for outcome in compared[-3:]:
        for gate in outcome.gates:
            assert_fits(
                lambda console, gate=gate, dtype=outcome.dtype: outcome_tables.worst_tensors(
                    console, gate, dtype, "each against the float64 result"
                )
            )


def test_the_last_lines_fit(compared):
    assert_fits(lambda console: outcome_tables.closing(console, compared, 12.0))


def test_two_float64_results_have_one_distance_and_not_two_errors(compared):
    gpt2 = [outcome for outcome in compared if outcome.program == "gpt2"]
    passes = [o for o in gpt2 if o.dtype == "float64"]
    for outcome in passes:
        for tensor in outcome.gates[0].tensors:
            errors = measured_errors("float64", "float64", tensor)
            assert (errors.torch, errors.jax) == (None, None)
            assert errors.apart == tensor.mutual_error_u
    text = shown(lambda c: outcome_tables.worst_tensors(c, passes[0].gates[0], "float64", ""), 120)
    assert "apart" in text
    assert "PyTorch" not in text


def test_each_gate_shows_what_it_measures(compared):
    for outcome in compared:
        for gate in outcome.gates:
            for tensor in gate.tensors:
                errors = measured_errors(gate.name, outcome.dtype, tensor)
                values = [v for v in (errors.torch, errors.jax, errors.apart) if v is not None]
                if gate.name == "values":
                    assert not values
                elif gate.name == "trajectory":
                    assert values == [errors.apart]
                elif gate.name == "central-differences":
                    assert values == [errors.torch]
                elif outcome.dtype != "float64":
                    assert values == [tensor.torch_error_u, tensor.jax_error_u]
                # The error nearest to its limit is among them, unless it is a single element's.
                if (
                    values
                    and tensor.peak_error_u / tensor.peak_limit_u < 0.999 * tensor.error_ratio
                ):
                    assert max(values) / tensor.limit_u == pytest.approx(tensor.error_ratio, 1e-4)


def test_u_is_said_under_every_table(compared):
    for outcome in compared:
        text = shown(lambda c, o=outcome: outcome_tables.outcomes(c, "a title", [o]), 80)
        power = {"float64": "2^-53", "float32": "2^-24", "bfloat16": "2^-8"}.get(outcome.dtype)
        assert (f"one unit of rounding error: {power} in" in text) == (power is not None)


def test_the_demonstrations_fit():
    names = ("torch", "jax")
    sides = {"a": 0.9183, "L": 0.0852, "dL/dw": -0.0898}
    forms = ("from logit", "from activation")
    shown_forms = {f"{n} {f}": LossAndGradient("inf", 1.2e-38) for n in names for f in forms}
    demonstrations = Demonstrations(
        neuron=NeuronNumbers(
            POINT, dict.fromkeys(("by hand", "central differences", *names), sides)
        ),
        saturation=[SaturatedPoint(-200.0, 1.0, shown_forms)],
        graphs=dict.fromkeys(names, "a graph\nof two lines"),
        step_sizes=StepSizes([StepError(1e-4, 2e-5, 3e-9)], dict.fromkeys(names, 1e-16)),
        cost=[GradientCost("simple-net", name, 71, 1e-4, 3e-4, 3.0, 72, 0.0072) for name in names],
        accumulation=dict.fromkeys(names, Accumulation(1.0000000001, 2.0)),
        parameters=[ParameterShare("the token embedding", 38_597_376, 0.31)],
    )
    assert_fits(lambda console: demo_tables.show(console, "a program", demonstrations))
