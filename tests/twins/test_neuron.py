"""One neuron: the gradients of the textbook point, and a loss that stands saturation."""

import importlib
import math

import numpy as np
import pytest

from bench.harness import programs
from shared import by_hand
from tests.helpers import verdicts

POINT = programs.sigmoid_bce(steps=1)
SATURATED = (-1000.0, -88.0, 88.0, 1000.0)
LABELS = np.array([0.0, 1.0])


def _observed(build, framework, dtype, device, z=None, loss="loss_fn"):
    """The textbook point, or weight 1 at x = z under both labels at once."""
    if z is None:
        start, batch = POINT.params, POINT.batches[0]
    else:
        start = {"w": np.asarray(1.0), "b": np.asarray(0.0)}
        batch = (np.full_like(LABELS, z), LABELS)
    model, runtime = build(framework, POINT, dtype, device, start)
    return framework.trace.observe(model, getattr(framework.sigmoid_bce, loss), batch, runtime)


def _by_hand(z):
    """Loss, activations and gradients at weight 1 and x = z, in the mean of both labels."""
    point = {"w": np.asarray(1.0), "b": np.asarray(0.0)}
    loss, a, gradients = by_hand.neuron(point, np.full_like(LABELS, z), LABELS)
    gradients = {name: np.asarray(value.mean()) for name, value in gradients.items()}
    return {"loss": np.asarray(loss.mean()), "a": a, **gradients}


def _tensors(seen):
    return {"loss": seen.loss, "a": seen.output, **seen.gradients}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradients_are_the_printed_ones(build, framework, device, dtype):
    gradients = _observed(build, framework, dtype, device).gradients
    assert f"{gradients['w']:.4f}" == "-0.0898"
    assert f"{gradients['b']:.4f}" == "-0.0817"


def test_loss_activation_and_gradients_are_those_by_hand(build, framework, device, assert_same64):
    loss, a, gradients = by_hand.neuron(POINT.params, *POINT.batches[0])
    seen = _observed(build, framework, "float64", device)
    assert_same64(_tensors(seen), {"loss": loss, "a": a, **gradients})


@pytest.mark.parametrize("z", SATURATED)
def test_a_saturated_neuron_is_right_on_each_side(build, framework, device, assert_same64, z):
    seen = _observed(build, framework, "float64", device, z)
    assert_same64(_tensors(seen), _by_hand(z))


@pytest.mark.parametrize("z", SATURATED)
def test_saturated_neurons_agree_in_float32(build, frameworks, device, z):
    torch, jax = (
        _tensors(_observed(build, framework, "float32", device, z)) for framework in frameworks
    )
    verdicts.assert_equal(verdicts.judge_float32(torch, jax, _by_hand(z)), "float32")


def test_the_textbook_form_is_the_same_loss_where_nothing_saturates(
    build, framework, assert_same64
):
    textbook = _observed(build, framework, "float64", "cpu", 2.5, "textbook_loss_fn")
    assert_same64(_tensors(textbook), _by_hand(2.5))


def test_the_textbook_form_fails_as_documented_where_the_sigmoid_saturates(build, framework):
    """At z = 1000 the label 0 costs 1000 and the gradient at b is half of 1; neither comes out."""
    exact = _by_hand(1000.0)
    assert (float(exact["loss"]), float(exact["b"])) == (500, 0.5)
    seen = _observed(build, framework, "float64", "cpu", 1000.0, "textbook_loss_fn")
    gradients = [float(seen.gradients[name]) for name in ("w", "b")]
    if framework.name == "torch":  # logarithms are clamped at -100, and the gradient vanishes
        assert float(seen.loss) == 50
        assert gradients == [0, 0]
    else:
        assert not math.isfinite(seen.loss)
        assert all(math.isnan(gradient) for gradient in gradients)


def test_the_graph_leads_from_the_loss_to_both_parameters(build, framework):
    model, runtime = build(framework, POINT, "float32", "cpu")
    graph = framework.sigmoid_bce.graph(model, *runtime.batch(*POINT.batches[0]))
    if framework.name == "torch":
        assert graph.startswith("BinaryCrossEntropyWithLogits")
        assert [graph.count(f"AccumulateGrad  ({name})") for name in "wb"] == [1, 1]
    else:
        *helpers, main = graph.split("{ lambda")
        assert any(" log1p " in helper for helper in helpers)
        operations = [
            line.split(" = ")[1].split()[0] for line in main.splitlines() if " = " in line
        ]
        assert operations[:2] == ["mul", "add"]  # wx + b


def test_the_graph_is_plain_text_on_a_terminal_too(build, framework, monkeypatch):
    if framework.name == "jax":  # decides when it is imported
        printer = importlib.import_module("jax._src.pretty_printer")
        monkeypatch.setattr(printer, "CAN_USE_COLOR", True)
    model, runtime = build(framework, POINT, "float32", "cpu")
    graph = framework.sigmoid_bce.graph(model, *runtime.batch(*POINT.batches[0]))
    assert "\x1b" not in graph
