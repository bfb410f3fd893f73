"""The drawing of GPT-2's block: the same boxes in both frameworks, and nothing over anything."""

import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from bench.harness import frameworks, records
from bench.studies import tutorial_pictures
from bench.tutorial import parts_svg
from shared.graph import INPUT, OPERATION, PARAMETER, Amount, Edge, Graph, Node

SVG = "{http://www.w3.org/2000/svg}"
# How wide and high a letter of 11.5 pixels is at most, in the fonts that the drawing asks for.
LETTER, ASCENT, DESCENT = 6.95, 9.0, 3.0
# Boxes that one framework alone has: the mask, and what stands between two blocks.
OF_JAX_ALONE = {"h.0.attn: causal"}
WORDS = {"scale": "weight", "kernel": "weight"}


@pytest.fixture(scope="module", params=frameworks.NAMES)
def graph(request):
    return _graph(request.param)


def _graph(side):
    record = records.load(tutorial_pictures.RECORD)
    return tutorial_pictures.graph_of(record, tutorial_pictures.BLOCK, side)


def _drawn(graph):
    return ET.fromstring(parts_svg.svg(graph, "title", "", "note"))


def _rectangle(element):
    x, y, width, height = (float(element.get(key)) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _letters(element):
    x, y, wide = float(element.get("x")), float(element.get("y")), LETTER * len(element.text)
    left = x - wide / 2 if element.get("text-anchor") == "middle" else x
    return left, y - ASCENT, left + wide, y + DESCENT


def _overlap(one, other):
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 0.2 and down > 0.2


def test_no_text_is_over_another_and_none_leaves_the_drawing(graph):
    drawn = _drawn(graph)
    texts = [_letters(element) for element in drawn.iter(f"{SVG}text")]
    for one, other in itertools.combinations(texts, 2):
        assert not _overlap(one, other)
    width, height = float(drawn.get("width")), float(drawn.get("height"))
    for left, top, right, bottom in texts:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


def test_no_box_is_over_another_or_over_a_label_and_holds_its_own_lines(graph):
    drawn = _drawn(graph)
    boxes = [_rectangle(e) for e in drawn.iter(f"{SVG}rect") if e.get("rx")]
    assert len(boxes) == sum(node.kind != PARAMETER for node in graph.nodes)
    for one, other in itertools.combinations(boxes, 2):
        assert not _overlap(one, other)
    for element in drawn.iter(f"{SVG}text"):
        text = _letters(element)
        for box in filter(lambda box: _overlap(box, text), boxes):
            assert element.get("text-anchor") is None  # a label stands outside of boxes
            assert box[0] < text[0]
            assert box[1] < text[1]
            assert text[2] < box[2]
            assert text[3] < box[3]


def test_every_part_parameter_operation_and_edge_is_written(graph):
    texts = Counter(element.text for element in _drawn(graph).iter(f"{SVG}text"))
    words = " ".join(texts)
    for node in graph.nodes:
        assert (
            node.name.rpartition(".")[2] in words if node.kind == PARAMETER else node.name in texts
        )
        for operation in node.operations:
            assert operation in words or operation in parts_svg.SHAPING
    for edge in graph.edges:
        assert "×".join(map(str, edge.shape)) in texts
        assert str(edge.value) in texts
        assert edge.gradient is None or str(edge.gradient) in texts


def test_each_box_says_how_many_of_its_operations_only_change_a_shape(graph):
    texts = [element.text for element in _drawn(graph).iter(f"{SVG}text")]
    found = [
        int(n[1]) for text in texts if (n := re.fullmatch(r"(?:and )?(\d+) for the shape", text))
    ]
    assert sum(found) == sum(
        operation in parts_svg.SHAPING for node in graph.nodes for operation in node.operations
    )


def test_an_edge_that_skips_rows_goes_down_beside_all_boxes():
    nodes = [Node("a", INPUT), *(Node(f"f{i}", OPERATION, ("f",)) for i in range(3))]
    amount = Amount((2,), 1.0)
    ends = [(0, 1), (1, 2), (2, 3), (0, 3)]
    edges = [Edge(source, target, (2,), amount, amount) for source, target in ends]
    drawn = _drawn(Graph(nodes, 1.0, edges))
    right = max(_rectangle(e)[2] for e in drawn.iter(f"{SVG}rect") if e.get("rx"))
    lanes = [path.get("d") for path in drawn.iter(f"{SVG}path") if "Q" in path.get("d")]
    (lane,) = (float(re.search(r"H([\d.]+)", path)[1]) for path in lanes)
    assert lane > right


def test_both_frameworks_have_the_same_parts_with_the_same_tensors():
    torch, jax = (_edges(_graph(side)) for side in frameworks.NAMES)
    extra = {key for key in jax if key[0] in OF_JAX_ALONE}
    assert len(extra) == 1
    assert torch.keys() == jax.keys() - extra
    for key, edges in torch.items():
        for (value, gradient), (other, other_gradient) in zip(edges, jax[key], strict=True):
            assert value.size == pytest.approx(other.size, rel=1e-12), key
            assert gradient.size == pytest.approx(other_gradient.size, rel=1e-9), key


def _edges(graph):
    """The tensors between two parts, by the names of both in PyTorch's words."""
    last = len(graph.nodes) - 1  # the norm after the block in one, a barrier in the other
    names = []
    for i, node in enumerate(graph.nodes):
        path, dot, leaf = node.name.rpartition(".")
        names.append("after" if i == last else f"{path}{dot}{WORDS.get(leaf, leaf)}")
    found = {}
    for edge in graph.edges:
        key = names[edge.source], names[edge.target]
        found.setdefault(key, []).append((edge.value, edge.gradient))
    return {key: sorted(edges, key=lambda pair: pair[0].size) for key, edges in found.items()}
