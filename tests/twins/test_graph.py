"""The graph of a loss: its values and gradients are those of the model, on every edge."""

import functools
import importlib
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import programs
from shared import by_hand
from shared.config import GPTConfig
from shared.graph import INPUT, OPERATION, PARAMETER, Amount, consecutive

CANONICAL = {"kernel": "weight"}
SMALL = GPTConfig(
    vocab_size=5,
    context_length=5,
    emb_dim=8,
    n_heads=2,
    n_layers=1,
    drop_rate=0.0,
    qkv_bias=True,
)
# The places of a block in ``gpt2.py``, in the order in which they run, without JAX's mask.
BLOCK = [
    "ln_1",
    "attn.c_attn",
    "attn: q, k, v",
    "attn: scores",
    "attn: scores",
    "attn: weights",
    "attn: y",
    "attn.c_proj",
    ": x",
    "ln_2",
    "mlp.c_fc",
    "mlp: x",
    "mlp.c_proj",
    ": x",
]


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


@pytest.mark.slow("jax-simple-net")
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


@pytest.fixture
def parts(framework, build):
    """The graph of the parts of a small GPT-2, or that of its nodes."""

    def record(how="record_parts", **changed):
        program = programs.gpt2(
            config=replace(SMALL, **changed), size=(1, 5), attention="reference_attention"
        )
        model, runtime = build(framework, program, "float64", "cpu")
        batch = runtime.batch(*program.batches[0])
        return getattr(_module(framework), how)(model, program.loss_fn(framework), *batch)

    return record


def _operations(graph):
    return {node.name: node.operations for node in graph.nodes if node.kind == OPERATION}


@pytest.mark.slow("jax")
def test_the_parts_of_a_block_are_its_layers_and_statements_in_their_order(parts):
    names = [node.name for node in parts().nodes if node.kind == OPERATION]
    block = [name.removeprefix("h.0").removeprefix(".") for name in names if name[:3] == "h.0"]
    assert [name for name in block if name != "attn: causal"] == BLOCK


@pytest.mark.slow("jax")
def test_every_operation_is_in_one_part_and_gradients_of_parameters_stay(parts):
    nodes, whole = parts("record"), parts()
    each = Counter(node.name for node in nodes.nodes if node.kind == OPERATION)
    assert each == Counter(name for node in whole.nodes for name in node.operations)
    assert whole.loss == nodes.loss
    assert all(edge.source < edge.target for edge in whole.edges)
    found, direct = _of_parameters(whole), _of_parameters(nodes)
    (tied,) = (name for name in found if name.startswith("wte"))
    assert len(found.pop(tied)) == 2  # the embedding and the head
    for name, gradients in found.items():
        assert gradients == direct[name]


def _of_parameters(graph):
    """The gradients that come back to each parameter."""
    found = {}
    for edge in graph.edges:
        if graph.nodes[edge.source].kind == PARAMETER:
            found.setdefault(graph.nodes[edge.source].name, []).append(edge.gradient)
    return found


@pytest.mark.slow("jax")
def test_what_a_part_takes_several_times_comes_back_as_one_sum(parts):
    """JAX's layer norm reads x three times, which is one edge of the norm as a part."""
    graph = parts()
    norm = next(i for i, node in enumerate(graph.nodes) if node.name == "h.0.ln_2")
    (taken,) = (edge for edge in graph.edges if edge.target == norm and edge.shape == (1, 5, 8))
    one, other = (edge for edge in graph.edges if edge.source == taken.source)
    assert one.value == other.value


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize("kind", ["layer", "bias", "heads"])
def test_another_model_has_another_graph(parts, kind):
    changed = {"layer": {"n_layers": 2}, "bias": {"qkv_bias": False}, "heads": {"n_heads": 4}}
    one, other = parts(), parts(**changed[kind])
    names = ({node.name for node in graph.nodes} for graph in (one, other))
    gone, new = (first - second for first, second in itertools.permutations(names, 2))
    assert any(name.startswith("h.1.mlp") for name in new) == (kind == "layer")
    assert gone == ({"h.0.attn.c_attn.bias"} if kind == "bias" else set())
    shapes = {edge.shape for edge in other.edges}
    assert ((1, 4, 5, 5) in shapes) == (kind == "heads")


@pytest.mark.slow("jax")
def test_another_function_in_the_code_is_another_operation_in_its_part(
    parts, framework, monkeypatch
):
    before = _operations(parts())
    library = framework.gpt2.F if framework.name == "torch" else framework.gpt2.nnx
    monkeypatch.setattr(library, "gelu", lambda x, approximate: library.relu(x))
    after = _operations(parts())
    (name,) = (name for name in before if before[name] != after[name])
    assert name == "h.0.mlp: x"
    assert after[name] == (("ReluBackward0",) if framework.name == "torch" else ("relu",))


@pytest.mark.slow("jax")
def test_recording_parts_leaves_the_classes_as_they_were(parts, framework):
    classes = [framework.gpt2.Block, framework.gpt2.MLP]
    before = [dict(vars(cls)) for cls in classes]
    parts()
    assert [dict(vars(cls)) for cls in classes] == before


@pytest.mark.slow("jax")
def test_a_graph_within_a_module_has_what_it_exchanges_with_the_rest(parts):
    whole = parts()
    mlp = whole.within("h.0.mlp")
    assert [node.name for node in mlp.nodes if node.kind == INPUT] == ["h.0.ln_2"]
    assert mlp.nodes[-1].name == "h.0: x"
    assert mlp.nodes[-1].kind == OPERATION
    with pytest.raises(ValueError, match=r"no node's name begins with 'h\.7'"):
        whole.within("h.7")


def test_equal_names_are_one_run_only_if_they_follow_one_another():
    assert consecutive(["a", "a", "b", "a"]) == [(0, "a"), (0, "a"), (1, "b"), (2, "a")]
    assert consecutive([]) == []
