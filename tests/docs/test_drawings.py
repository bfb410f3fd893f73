"""The tutorial's drawings: of the numbers on its pages, with nothing over anything else."""

import re
import xml.etree.ElementTree as ET

import pytest

from bench.harness import frameworks, records
from bench.reporting import figures
from bench.studies import tutorial_pictures
from bench.tutorial import graph_svg, weights_svg
from bench.tutorial.graph_layout import lay_out
from shared.graph import Amount, Edge, Graph, Node

SVG = "{http://www.w3.org/2000/svg}"
OF_NODES = [name for name in tutorial_pictures.GRAPHS if name != tutorial_pictures.BLOCK]
GRAPHS = [(name, side) for name in OF_NODES for side in frameworks.NAMES]
each_graph = pytest.mark.parametrize(("name", "side"), GRAPHS, ids="-".join)


@pytest.mark.parametrize("ink", figures.INKS)
@pytest.mark.parametrize("name", tutorial_pictures.drawings())
def test_a_picture_of_the_tutorial_is_drawn_from_the_record_as_it_is(name, ink):
    drawn = tutorial_pictures.drawings()[name](ink, f"records {figures.digest(name)}")
    assert (records.ROOT / "docs" / f"{name}{ink}.svg").read_text(encoding="utf-8") == drawn


@pytest.fixture(scope="module")
def record():
    return records.load(tutorial_pictures.RECORD)


@each_graph
def test_every_value_and_gradient_of_a_graph_is_written_in_its_drawing(record, name, side):
    graph = tutorial_pictures.graph_of(record, name, side)
    drawn = ET.fromstring(graph_svg.svg(graph, "title", "", "note"))
    texts = [element.text for element in drawn.iter(f"{SVG}text")]
    for node in graph.nodes:
        assert node.name in texts
    for edge in graph.edges:
        assert edge.gradient is None or str(edge.gradient) in texts
        assert edge.value is None or any(str(edge.value) in text for text in texts)


@each_graph
def test_no_box_is_over_another_and_edges_go_down(record, name, side):
    graph = tutorial_pictures.graph_of(record, name, side)
    widths = [40.0 + 5 * len(node.name) for node in graph.nodes]
    layout = lay_out(graph, widths)
    for i, (x, row) in enumerate(layout.nodes):
        assert widths[i] / 2 - 0.2 <= x <= layout.width - widths[i] / 2 + 0.2
        for j, (other, row_of_other) in enumerate(layout.nodes[:i]):
            if row == row_of_other:
                assert abs(x - other) >= (widths[i] + widths[j]) / 2
    for edge, points in zip(graph.edges, layout.edges, strict=True):
        rows = [row for _, row in points]
        assert points[0] == layout.nodes[edge.source]
        assert points[-1] == layout.nodes[edge.target]
        assert rows == list(range(rows[0], rows[-1] + 1))


def test_an_edge_without_a_gradient_is_dashed_and_one_without_a_value_shows_its_shape():
    nodes = [Node("x", "input"), Node("f", "operation")]
    edge = Edge(0, 1, (8, 5), None, None)
    text = graph_svg.svg(Graph(nodes, 1.0, [edge]), "one", "-dark", "note")
    (path,) = re.findall(r"<path [^>]*>", text)
    assert "stroke-dasharray" in path
    assert ">8×5<" in text


def test_an_amount_is_a_number_or_a_length():
    assert str(Amount.of([[0.5]])) == "0.5"
    assert str(Amount.of([3.0, 4.0])) == "‖5‖"
    assert str(Amount.of(-0.0)) == "0"


@pytest.mark.parametrize("ink", ["", "-dark"])
def test_the_weights_are_written_where_a_token_may_read(record, ink):
    attention = record["attention"]
    text = weights_svg.svg(attention["torch"], attention["words"], ink, "note")
    texts = [element.text for element in ET.fromstring(text).iter(f"{SVG}text")]
    for head in attention["torch"]:
        for i, row in enumerate(head):
            assert sum(row) == pytest.approx(1)
            assert not any(row[i + 1 :])
            assert all(f"{weight:.2f}" in texts for weight in row[: i + 1])
    assert sum(re.fullmatch(r"\d\.\d\d", text) is not None for text in texts) == 2 * 15


def test_both_frameworks_have_the_same_weights_and_losses(record):
    for name in tutorial_pictures.GRAPHS:
        torch, jax = (tutorial_pictures.graph_of(record, name, side) for side in frameworks.NAMES)
        assert torch.loss == pytest.approx(jax.loss, rel=1e-12)
    attention = record["attention"]
    for ours, theirs in zip(attention["torch"], attention["jax"], strict=True):
        for row, other in zip(ours, theirs, strict=True):
            assert row == pytest.approx(other, rel=1e-12)
