"""The graph of a loss: its values and gradients are those of the model, on every edge."""

import functools
import importlib

import numpy as np
import pytest

from bench.harness import programs
from shared import by_hand
from shared.graph import INPUT, PARAMETER, Amount

CANONICAL = {"kernel": "weight"}


def _module(framework):
    return importlib.import_module(f"{framework.name}_impl.graph")


@pytest.fixture(scope="module")
def recorded(framework, build):
    """The graph of a program in float64, and what its backward pass by hand gives."""

    @functools.cache
    def record(make, reference):
        program = make()
        batch = [part.astype(np.float64) for part in program.batches[0]]
        start = {name: value.astype(np.float64) for name, value in program.params.items()}
        model, runtime = build(framework, program, "float64", "cpu", start)
        graph = _module(framework).record(model, program.loss_fn(framework), *runtime.batch(*batch))
        return graph, *reference(start, *batch)

    return record


def _parameter(name: str) -> str:
    module, dot, leaf = name.rpartition(".")
    return f"{module}{dot}{CANONICAL.get(leaf, leaf)}"


@pytest.mark.parametrize(
    ("make", "reference"),
    [(programs.sigmoid_bce, by_hand.neuron), (programs.simple_net, by_hand.simple_net)],
    ids=["neuron", "simple-net"],
)
def test_loss_and_gradients_of_parameters_are_those_by_hand(recorded, make, reference):
    graph, loss, _, gradients = recorded(make, reference)
    assert graph.loss == pytest.approx(float(loss), rel=1e-12)
    found = {
        _parameter(node.name): edge.gradient
        for edge in graph.edges
        if (node := graph.nodes[edge.source]).kind == PARAMETER
    }
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        expected = Amount.of(gradient)
        assert found[name].size == pytest.approx(expected.size, rel=1e-12), name


def test_what_comes_to_a_node_is_what_leaves_it_times_its_derivative(recorded):
    """At the neuron's sum z = wx + b the gradients of both operands are that of z."""
    graph, *_ = recorded(programs.sigmoid_bce, by_hand.neuron)
    place = next(i for i, node in enumerate(graph.nodes) if node.name in ("add", "AddBackward0"))
    after = sum(edge.gradient.size for edge in graph.edges if edge.source == place)
    before = [edge.gradient.size for edge in graph.edges if edge.target == place]
    assert len(before) == 2
    assert before == pytest.approx([after, after], rel=1e-12)


def test_nodes_stand_after_those_that_they_take_from(recorded):
    graph, *_ = recorded(programs.simple_net, by_hand.simple_net)
    assert all(edge.source < edge.target for edge in graph.edges)
    targets = {edge.target for edge in graph.edges}
    sources = {edge.source for edge in graph.edges}
    assert sources | targets == set(range(len(graph.nodes)))
    assert len(graph.nodes) - 1 not in sources  # the loss


def test_only_jax_has_nodes_for_the_batch(recorded, framework):
    graph, *_ = recorded(programs.sigmoid_bce, by_hand.neuron)
    inputs = [node.name for node in graph.nodes if node.kind == INPUT]
    assert inputs == ([] if framework.name == "torch" else ["x", "y"])
    for edge in graph.edges:
        if graph.nodes[edge.source].kind == INPUT:
            assert edge.gradient is None


def test_recording_leaves_no_gradient_behind(recorded, framework, build):
    if framework.name == "jax":
        pytest.skip("JAX's gradients are values")
    program = programs.simple_net()
    model, runtime = build(framework, program, "float64", "cpu")
    _module(framework).record(
        model, program.loss_fn(framework), *runtime.batch(*program.batches[0])
    )
    assert all(p.grad is None for p in model.parameters())


def test_the_text_of_a_graph_has_a_line_for_each_edge(recorded):
    graph, *_ = recorded(programs.sigmoid_bce, by_hand.neuron)
    head, *lines = graph.lines()
    assert head.split() == ["from", "to", "value", "gradient"]
    assert len(lines) == len(graph.edges)
    assert any("-0.0898" in line for line in lines)
