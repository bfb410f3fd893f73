"""The graphs and the attention weights that the tutorial shows, from its own blocks."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict

from bench.harness import frameworks, machine
from bench.harness.records import Json, Record, load
from bench.harness.terminal import NAMES
from bench.studies.study import Study, StudyOptions, shared, twins
from bench.tutorial import graph_svg, pages, parts_svg, weights_svg
from bench.tutorial.prompt import run
from shared.graph import Amount, Edge, Graph, Node

RECORD = "pictures-cpu"
# Each graph, and the page whose blocks leave it behind as ``found``.
BLOCK = "block"  # whose nodes are parts of the model
GRAPHS = {
    "neuron": "tutorial-3-gradients",
    "simple-net": "tutorial-4-networks",
    BLOCK: "tutorial-5-gpt2",
}
ATTENTION = "tutorial-5-gpt2"
HEADINGS = {"torch": "PyTorch: autograd's nodes", "jax": "JAX: the jaxpr"}


def measure(options: StudyOptions) -> Record:
    """Paste each page in both columns until it has what is drawn."""
    graphs = {
        name: {side: _content(_graph(page, side)) for side in frameworks.NAMES}
        for name, page in GRAPHS.items()
    }
    attention: dict[str, Json] = {}
    for side in frameworks.NAMES:
        names = _names(ATTENTION, side, "weights")
        attention["words"] = names["words"]
        weights = frameworks.one(side).params.to_numpy(names["weights"])
        attention[side] = weights.tolist()
    environment = machine.environment(frameworks.both(), "cpu")
    return Record(environment, {"graphs": graphs, "attention": attention})


def _names(page: str, side: str, wanted: str) -> dict[str, Json]:
    """What a column of a page has defined once it has ``wanted``."""
    names: dict[str, object] = {"__name__": page}
    (path,) = (one for one in pages.tutorial() if one.stem == page)
    for _ in run(path, side, names):
        if wanted in names:
            return names
    raise ValueError(f"{path.name} defines no {wanted} in its column of {NAMES[side]}")


def _graph(page: str, side: str) -> Graph:
    found = _names(page, side, "found")["found"]
    assert isinstance(found, Graph)
    return found


def _content(graph: Graph) -> dict[str, Json]:
    """The graph as JSON, which has no infinity: there it is the text ``inf``."""
    content = asdict(graph)
    for edge in content["edges"]:
        for amount in filter(None, (edge["value"], edge["gradient"])):
            if not math.isfinite(amount["size"]):
                amount["size"] = str(amount["size"])
    return content


def lines(record: Record) -> Iterator[str]:
    """The size of each graph, and its loss."""
    for name, by_framework in record["graphs"].items():
        for side in by_framework:
            graph = graph_of(record, name, side)
            sizes = f"{len(graph.nodes)} nodes, {len(graph.edges)} edges"
            yield f"{name}, {NAMES[side]}: {sizes}, loss {graph.loss:.4g}"


def graph_of(record: Record, name: str, side: str) -> Graph:
    """A graph of the record."""
    content = record["graphs"][name][side]
    return Graph(
        nodes=[
            Node(node["name"], node["kind"], tuple(node["operations"])) for node in content["nodes"]
        ],
        loss=content["loss"],
        edges=[
            Edge(
                source=edge["source"],
                target=edge["target"],
                shape=tuple(edge["shape"]),
                value=_amount(edge["value"]),
                gradient=_amount(edge["gradient"]),
            )
            for edge in content["edges"]
        ],
    )


def _amount(content: dict[str, Json] | None) -> Amount | None:
    return None if content is None else Amount(tuple(content["shape"]), float(content["size"]))


def drawings() -> dict[str, Callable[[str, str], str]]:
    """Every drawing by its name: a function of the ink and of the note that is written in it."""
    return {
        **{
            f"graph-{name}-{side}": _drawing(name, side)
            for name in GRAPHS
            for side in frameworks.NAMES
        },
        "attention": _attention,
    }


def _drawing(name: str, side: str) -> Callable[[str, str], str]:
    def draw(ink: str, note: str) -> str:
        svg = parts_svg.svg if name == BLOCK else graph_svg.svg
        return svg(graph_of(load(RECORD), name, side), HEADINGS[side], ink, note)

    return draw


def _attention(ink: str, note: str) -> str:
    attention = load(RECORD)["attention"]
    return weights_svg.svg(attention["torch"], attention["words"], ink, note)


STUDY = Study(
    name="pictures",
    claim="Both frameworks record the same computation, with the same values and gradients",
    sources=(
        *twins("graph", "gpt2", "sigmoid_bce", "simple_net", "params", "runtime"),
        *shared("graph", "statements", "data", "params"),
    ),
    measure=measure,
    lines=lines,
)
