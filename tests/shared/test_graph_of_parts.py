"""Nodes that were made in one place of the code become one node of a graph."""

import numpy as np
import pytest

from shared.graph import INPUT, OPERATION, PARAMETER, Amount, Node, Recording, Use


@pytest.fixture
def recording():
    """y = (x + x) w in two places: a, which reads x twice, and b."""
    nodes = [
        Node("x", INPUT),
        Node("w", PARAMETER),
        Node("copy", OPERATION),
        Node("add", OPERATION),
        Node("mul", OPERATION),
    ]
    one, two = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    return Recording(
        nodes,
        parts=[None, None, (0, "a"), (0, "a"), (1, "b")],
        loss=1.0,
        uses=[
            Use(0, 0, 2, (2,), one, one),
            Use(0, 0, 3, (2,), one, two),
            Use(2, 0, 3, (2,), one, two),
            Use(3, 0, 4, (2,), two, one),
            Use(1, 0, 4, (2,), None, None),
        ],
    )


def test_nodes_of_a_place_are_one_node_with_their_names(recording):
    graph = recording.graph_of_parts()
    assert graph.nodes == [
        Node("x", INPUT),
        Node("w", PARAMETER),
        Node("a", OPERATION, ("copy", "add")),
        Node("b", OPERATION, ("mul",)),
    ]
    assert [(edge.source, edge.target) for edge in graph.edges] == [(0, 2), (2, 3), (1, 3)]


def test_gradients_of_uses_of_one_tensor_in_a_place_are_added(recording):
    first, _, last = recording.graph_of_parts().edges
    assert first.gradient == Amount((2,), 5.0)  # of (3, 4), and not 3 or 4
    assert first.value == Amount((2,), 3.0)
    assert last.value is last.gradient is None


def test_two_outputs_of_one_node_are_two_edges(recording):
    recording.uses[1] = Use(0, 1, 3, (2,), np.ones(2), np.ones(2))
    edges = recording.graph_of_parts().edges
    assert [edge.gradient.size for edge in edges if edge.source == 0] == [3.0, np.sqrt(2)]


def test_the_graph_of_all_nodes_has_an_edge_for_each_use(recording):
    graph = recording.graph()
    assert graph.nodes == recording.nodes
    assert len(graph.edges) == len(recording.uses)
    assert graph.edges[1].gradient == Amount((2,), 4.0)
