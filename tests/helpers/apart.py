"""Pair files cut in two, and calls in a process where one framework cannot be imported."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHER = {"torch": "jax", "jax": "torch"}
PACKAGES = {
    "torch": ("torch", "torchvision", "transformers"),
    "jax": ("jax", "jaxlib", "flax", "optax", "equinox", "haiku"),
}
# Each call's exit status and what it wrote to stderr, as JSON.
_CALLS = """
import contextlib, io, json, os, sys
for name in {gone}:
    sys.modules[name] = None  # an import of it fails
from twingrad.cli.main import main
done = []
for folder, call in {calls}:
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(call)
    done.append([status, err.getvalue()])
assert not any(sys.modules.get(name) for name in {gone})
print(json.dumps(done))
"""
Call = tuple[Path, Sequence[str]]  # the folder that it is made in, and its words


def calls_without(framework: str, calls: Sequence[Call]) -> list[tuple[int, str]]:
    """Status and stderr of each call, made in one process without ``framework``."""
    named = [[str(folder), list(call)] for folder, call in calls]
    done = subprocess.run(
        [sys.executable, "-c", _CALLS.format(gone=PACKAGES[framework], calls=named)],
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [(status, said) for status, said in json.loads(done.stdout)]


def one_side(text: str, side: str) -> str:
    """The pair file ``text`` without all that needs the framework of the other side."""
    tree = ast.parse(text)
    gone: set[str] = set()
    left: list[ast.stmt] = []
    for node in tree.body:
        if _is_of(node, PACKAGES[OTHER[side]]):
            assert isinstance(node, ast.Import | ast.ImportFrom)
            gone |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        else:
            left.append(_without_side(node, OTHER[side]))
    while uses := [node for node in left if _names(node) & gone]:
        left = [node for node in left if node not in uses]
        gone |= {name for node in uses for name in _defined(node)}
    tree.body = left
    return ast.unparse(tree)


def _is_of(node: ast.stmt, packages: Sequence[str]) -> bool:
    names: Mapping[type, Sequence[str]] = {
        ast.Import: [alias.name for alias in getattr(node, "names", ())],
        ast.ImportFrom: [getattr(node, "module", None) or ""],
    }
    return any(name.partition(".")[0] in packages for name in names.get(type(node), ()))


def _without_side(node: ast.stmt, side: str) -> ast.stmt:
    """A statement whose calls of ``Pair`` are given nothing of one side."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Pair":
            leave = (side, f"{side}_loss", f"{side}_optimizer", f"{side}_decode")
            call.keywords = [word for word in call.keywords if word.arg not in leave]
    return node


def _names(node: ast.stmt) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    stores = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {name.id for name in stores if isinstance(name.ctx, ast.Store)}
