"""The floors of the house: who may import whom, and that importing does nothing."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import frameworks

ROOT = Path(__file__).parents[2]
TORCH, JAX = {"torch", "torch_impl"}, {"jax", "jaxlib", "flax", "optax", "jax_impl"}
FORBIDDEN = {
    "shared": TORCH | JAX | {"bench", "tests"},
    "torch_impl": JAX | {"bench", "tests"},
    "jax_impl": TORCH | {"bench", "tests"},
    "bench": {"tests"},
    "twingrad": TORCH | JAX | {"tests"},
}
MODULES = [path for package in FORBIDDEN for path in sorted((ROOT / package).rglob("*.py"))]


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


each_module = pytest.mark.parametrize("path", MODULES, ids=_dotted)


def _imports(source: str) -> Iterator[str]:
    """Every module that ``source`` imports, at its top or anywhere within."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _trespasses(source: str, package: str) -> list[str]:
    return [name for name in _imports(source) if name.partition(".")[0] in FORBIDDEN[package]]


def _doings(source: str) -> list[str]:
    """Statements at the top of ``source`` that do more than import, define and document."""
    quiet = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    return [
        ast.unparse(node)
        for node in ast.parse(source).body
        if not isinstance(node, quiet)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not _attaches_a_derivative(node)
        and not ast.unparse(node).startswith("if __name__ == '__main__'")
    ]


def _attaches_a_derivative(node: ast.stmt) -> bool:
    """Whether ``node`` is ``NAME.defvjp(...)``, which is how JAX is told of a derivative."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(), "defvjp"))):
            return True
    return False


@each_module
def test_imports_only_go_downwards(path):
    package = _dotted(path).partition(".")[0]
    assert _trespasses(path.read_text(encoding="utf-8"), package) == []


@each_module
def test_the_top_of_a_module_only_defines(path):
    runs = path.stem == "__main__"  # which is there to do something
    assert runs or _doings(path.read_text(encoding="utf-8")) == []


def test_a_relative_import_is_not_used_to_hide_where_it_goes():
    for path in MODULES:
        relative = [name for name in _imports(path.read_text(encoding="utf-8")) if name[0] == "."]
        assert relative == [], path


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("shared", "import torch"),
        ("shared", "import jax.numpy as jnp"),
        ("shared", "def f():\n    from bench import sides"),
        ("torch_impl", "from jax_impl.gpt2 import GPT2"),
        ("torch_impl", "import numpy, optax"),
        ("jax_impl", "if True:\n    from torch import nn"),
    ],
)
def test_the_reader_of_imports_sees_a_trespass(package, source):
    assert len(_trespasses(source, package)) == 1


@pytest.mark.parametrize("source", ["print(1)", "for i in range(3): pass", "x = []\nx.append(1)"])
def test_the_reader_of_statements_sees_a_doing(source):
    assert len(_doings(source)) == 1


def test_the_reader_of_statements_lets_a_derivative_be_attached():
    assert _doings("def f(x): ...\nf.defvjp(forward, backward)") == []


@pytest.mark.parametrize(
    "source",
    [
        "f.g.defvjp(a, b)",
        "f().defvjp(a, b)",
        "f.defvjp",
        "f.defjvp(a)",
        "defvjp(f)",
        "f.defvjp(a)()",
    ],
)
def test_the_reader_of_statements_takes_nothing_else_for_that(source):
    assert len(_doings(source)) == 1


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _names(package: str) -> list[str]:
    """Its modules; those of packages within it may load what they are about."""
    return [_dotted(p) for p in MODULES if p.parent == ROOT / package and p.stem[0] != "_"]


IMPORT_ALL = """
import importlib, os, sys
for framework in {frameworks}:
    importlib.import_module(framework)
before = dict(os.environ)
for name in {names}:
    importlib.import_module(name)
    for other in {others}:
        assert other not in sys.modules, f"{{name}} loads {{other}}"
    assert dict(os.environ) == before, f"{{name}} changes the environment"
{after}
"""


def test_a_side_leaves_the_other_framework_unloaded_and_does_nothing_on_import(framework):
    own, other, after = {
        "torch": (
            ("torch",),
            sorted(JAX),
            "assert not torch.are_deterministic_algorithms_enabled()",
        ),
        "jax": (("jax", "flax", "optax"), sorted(TORCH), "assert not jax.config.jax_enable_x64"),
    }[framework.name]
    after = f"import {framework.name}\n{after}"
    names = _names(f"{framework.name}_impl")
    done = _python(IMPORT_ALL.format(frameworks=own, names=names, others=other, after=after))
    assert done.stderr == done.stdout == ""


def test_shared_and_bench_load_without_either_framework_and_print_nothing():
    names = _names("shared") + _names("bench")
    others = sorted({"torch", "jax", "flax", "optax"})
    done = _python(IMPORT_ALL.format(frameworks=(), names=names, others=others, after=""))
    assert done.stderr == done.stdout == ""


def test_signatures_are_checked_while_the_tests_run(framework):
    import numpy as np
    from jaxtyping import TypeCheckError

    from shared import by_hand, params

    start = params.init_uniform(params.SIMPLE_NET_SHAPES)
    wrong = np.zeros((3, 9), np.float32), np.zeros((3, 1), np.float32)
    with pytest.raises(TypeCheckError):
        by_hand.simple_net(start, *wrong)
    runtime = framework.runtime.configure("float32", "cpu")
    make = framework.simple_net.SimpleNet
    if framework.name == "jax":
        from flax import nnx

        model = framework.params.build(lambda: make(rngs=nnx.Rngs(0)), start, runtime)
    else:
        model = framework.params.build(make, start, runtime)
    with pytest.raises(TypeCheckError):
        framework.simple_net.loss_fn(model, *runtime.batch(*wrong))


def test_the_names_of_the_sides_are_those_of_their_packages():
    for name in frameworks.NAMES:
        assert (ROOT / f"{name}_impl" / "__init__.py").exists(), name
