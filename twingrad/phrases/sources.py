"""The code of a phrase, read as text: it is shown where neither framework is installed."""

import ast
import functools
import textwrap
from importlib import resources

from twingrad.phrases.phrase import Family, Phrase

FRAMEWORKS = ("torch", "jax")
# The imports that a page says once.
COMMON = (
    "import torch",
    "from torch import nn",
    "from torch.nn import functional as F",
    "import jax",
    "import jax.numpy as jnp",
    "import numpy as np",
    "import optax",
    "from flax import nnx",
)


def source(framework: str, family: Family, phrase: Phrase, *, common_imports: bool = True) -> str:
    """The imports and helpers that a phrase uses, and its function, as its file has them.

    Without ``common_imports`` those are left out that nearly every program has: ``COMMON``.
    """
    text = _text(framework, family.name)
    lines = text.splitlines()
    nodes = _definitions(framework, family.name)
    wanted = _names_used(nodes[phrase.name])
    for _ in nodes:  # what helpers use in their turn
        for name in wanted & set(nodes):
            wanted |= _names_used(nodes[name])
    imports = [
        code
        for node in ast.parse(text).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for code in [_import(node, wanted)]
        if code and (common_imports or code not in COMMON)
    ]
    helpers = [
        _segment(lines, node)
        for name, node in nodes.items()
        if name in wanted and name != phrase.name
    ]
    parts = ["\n".join(imports), *helpers, _segment(lines, nodes[phrase.name])]
    return "\n\n".join(part for part in parts if part)


def names(framework: str, family: Family) -> list[str]:
    """The functions of a family's module that are phrases: those without a leading underscore."""
    nodes = _definitions(framework, family.name)
    return [
        name for name, node in nodes.items() if isinstance(node, ast.FunctionDef) and name[0] != "_"
    ]


@functools.cache
def _text(framework: str, name: str) -> str:
    folder = resources.files("twingrad.phrases") / f"{framework}_code"
    return (folder / f"{name}.py").read_text(encoding="utf-8")


@functools.cache
def _definitions(framework: str, name: str) -> dict[str, ast.stmt]:
    """Functions, classes and constants of a module by name, in order."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(_text(framework, name)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return found


def _names_used(node: ast.stmt) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _import(node: ast.Import | ast.ImportFrom, wanted: set[str]) -> str:
    """The import with what is used of it alone; empty where nothing is."""
    used = [
        alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in wanted
    ]
    if not used:
        return ""
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import(used))
    return ast.unparse(ast.ImportFrom(node.module, used, node.level))


def _segment(lines: list[str], node: ast.stmt) -> str:
    first = node.lineno
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.decorator_list:
        first = node.decorator_list[0].lineno
    assert node.end_lineno is not None
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno]))
