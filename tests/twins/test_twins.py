"""The twins: file for file, name for name and argument for argument the same."""

import ast
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIDES = ("torch_impl", "jax_impl")
ROOMS = sorted({path.name for side in SIDES for path in (ROOT / side).glob("*.py")})

# What the frameworks' own words for the same thing are.
SAME = {"__call__": "forward", "array": "tensor", "arrays": "tensors"}
# Flax draws initial parameters and dropout from streams that are handed in.
EXTRA_ARGUMENTS = {"rngs"}
# Where a twin has less to say, and why.
LEFT_OUT = {
    "Optimizer.zero_grad": "JAX returns gradients, so that none are left to forget",
    "Optimizer.step": "nnx.Optimizer brings update(model, gradients) along",
    "ProcessGrid.exchanging": "JAX's compiler puts the exchange in",
    "ProcessGrid.total": "JAX's arrays are of all processes, and so are their sums",
    "ProcessGrid.count": "the same",
    "ProcessGrid.batch": "PyTorch's tensors are of this process alone",
    "ProcessGrid.shard": "PyTorch shards modules, by hooks of their own",
    "ProcessGrid.gather": "the same",
    "Runtime.compiler_options": "only XLA has to be told to keep its barriers",
    "compiled": "PyTorch decodes as it is called",
    "computes_on_gpu": "PyTorch's tensors say themselves where they are",
    "Trainer.state": "PyTorch's is the model and the optimizer themselves",
    "compute_in": "nnx.Embed alone keeps a dtype of its own; PyTorch's modules follow parameters",
}
OTHER_ARGUMENTS = {
    "export_tensors": "an nnx.State knows its layout, a torch dictionary needs its model beside it",
    "export_each": "the same",
    "set_keys": "a batch of JAX's is of all processes, one of PyTorch's of that rank",
    "ProcessGrid.distribute": "JAX shards arrays, PyTorch modules, which gather in their passes",
}

each_room = pytest.mark.parametrize("room", ROOMS)


def _arguments(function: ast.FunctionDef) -> list[str]:
    a = function.args
    every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs]
    names = [argument.arg for argument in [*every, *filter(None, [a.kwarg])]]
    return [SAME.get(name, name) for name in names if name not in EXTRA_ARGUMENTS]


def _outline(source: str) -> dict[str, list[str] | None]:
    """Public classes, methods and functions in order; arguments of what can be called."""
    outline: dict[str, list[str] | None] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            outline[node.name] = _arguments(node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            outline[node.name] = None
            for method in (part for part in node.body if isinstance(part, ast.FunctionDef)):
                name = SAME.get(method.name, method.name)
                if name == "__init__" or not name.startswith("_"):
                    outline[f"{node.name}.{name}"] = _arguments(method)
    return outline


def _first_difference(torch: str, jax: str) -> str | None:
    """Where two sources part, in one phrase."""
    ours, theirs = _outline(torch), _outline(jax)
    names = [name for name in ours if name not in LEFT_OUT or name in theirs]
    twins = [name for name in theirs if name not in LEFT_OUT or name in ours]
    for name, twin in zip_longest(names, twins):
        if name != twin:
            return f"{name} stands where its twin has {twin}"
        if ours[name] != theirs[name] and name not in OTHER_ARGUMENTS:
            return f"{name} takes {ours[name]} and its twin {theirs[name]}"
    return None


@each_room
def test_every_file_has_its_twin(room):
    for side in SIDES:
        assert (ROOT / side / room).exists(), f"{side} has no {room}"


@each_room
def test_twins_have_the_same_names_in_the_same_order(room):
    torch, jax = ((ROOT / side / room).read_text(encoding="utf-8") for side in SIDES)
    assert _first_difference(torch, jax) is None


@pytest.mark.parametrize("side", SIDES)
def test_the_model_file_is_read_in_one_sitting(side):
    lines = (ROOT / side / "gpt2.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200


def test_what_is_excepted_is_still_there_to_except():
    sources = [(ROOT / side / room).read_text(encoding="utf-8") for side in SIDES for room in ROOMS]
    names = {name for source in sources for name in _outline(source)}
    assert names >= LEFT_OUT.keys() | OTHER_ARGUMENTS.keys()


TWIN = "class Net:\n  def forward(self, x): ...\ndef loss_fn(model, x, y): ...\n"


def test_call_is_forwards_twin_and_rngs_are_ignored():
    jax = "class Net:\n  def __call__(self, x): ...\ndef loss_fn(model, x, y, *, rngs): ...\n"
    assert _first_difference(TWIN, jax) is None


@pytest.mark.parametrize(
    ("jax", "found"),
    [
        (TWIN.replace("loss_fn(model, x, y)", "loss_fn(model, y, x)"), "loss_fn takes"),
        (TWIN.replace("loss_fn", "loss"), "loss_fn stands where"),
        ("def loss_fn(model, x, y): ...\n" + TWIN.splitlines()[0] + " ...", "Net stands where"),
        (TWIN + "def more(): ...", "None stands where its twin has more"),
        (TWIN.replace("forward(self, x)", "forward(self, x, *, train)"), "Net.forward takes"),
    ],
)
def test_twins_that_part_are_found(jax, found):
    assert _first_difference(TWIN, jax).startswith(found)
