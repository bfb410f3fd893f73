"""Digests of the sources that a record measured, and whether they have changed since.

A digest is of content and not of paths: it is taken over the definitions of all files, in whatever
file and order they stand. Imports, comments, docstrings and annotations are left out, and a name
that comes from a module of this project counts without that module's name. So neither a moved
definition nor a renamed file changes a digest, but every changed constant does.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from bench.harness import records
from shared import files
from twingrad.files import write_json

PROJECT = ("bench", "shared", "torch_impl", "jax_impl", "twingrad")
INDEX = "sources.json"
# Fields of a syntax tree that are no code, or are not the same in every version of Python.
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
_Docstring = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class State(Enum):
    """Whether the sources of a record are as they were when it was measured."""

    SAME = "unchanged"
    CHANGED = "changed since"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Entry:
    """Digests of the sources that a record measured, and of its file."""

    sources: str
    record: str


def digest(patterns: Sequence[str], root: Path | None = None) -> str:
    """The digest of the sources that ``patterns`` name; ``ValueError`` where one names none."""
    found: list[str] = []
    for pattern in patterns:
        glob, _, name = pattern.partition("::")
        paths = sorted((root or records.ROOT).glob(glob))
        before = len(found)
        for path in paths:
            text = path.read_text(encoding="utf-8")
            found += [form for own, form in _parts(path.suffix, text) if name in ("", own)]
        if len(found) == before:
            raise ValueError(f"there is no source {pattern}: correct the study that names it")
    return of_forms(found)


def of_forms(forms: Sequence[str]) -> str:
    """The digest of definitions in any order; one that stands in several patterns counts once."""
    whole = "\n".join(sorted(set(forms)))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@cache  # several records are of one file
def _parts(suffix: str, text: str) -> list[tuple[str, str]]:
    """The definitions of a Python file; another file is one part."""
    return list(definitions(text)) if suffix == ".py" else [("", text)]


def definitions(text: str) -> Iterator[tuple[str, str]]:
    """Every statement of a module by its name and in normal form, imports left out."""
    tree = ast.parse(text)
    names = _Names(tree)
    for node in _statements(tree.body, documented=True):
        yield _name(node), _form(names.visit(node))


def read_index() -> dict[str, Entry]:
    """The index of sources beside the records; ``ValueError`` if it is no such file."""
    path = records.RESULTS / INDEX
    if not path.exists():
        return {}
    content = files.read_object(path, "check it out again")
    with records.showing(INDEX):
        return {name: Entry(**entry) for name, entry in content.items()}


def note(name: str, sources: str) -> None:
    """Write to the index that the record ``name``, as it stands, measured ``sources``."""
    entries = read_index() | {name: Entry(sources, of_file(name))}
    content = {key: vars(entries[key]) for key in sorted(entries)}
    write_json(records.RESULTS / INDEX, content)


def of_file(name: str) -> str:
    """The digest of a record's file."""
    return hashlib.sha256(records.path_of(name).read_bytes()).hexdigest()[:16]


def state(name: str, patterns: Sequence[str], index: dict[str, Entry]) -> State:
    """Whether the sources of the record ``name`` have changed since it was measured."""
    entry = index.get(name)
    if entry is None or entry.record != of_file(name):
        return State.UNKNOWN  # it was written by its command, past the index
    try:
        return State.SAME if entry.sources == digest(patterns) else State.CHANGED
    except ValueError:  # one of the sources is gone
        return State.CHANGED


class _Names(ast.NodeTransformer):
    """Names as they are where they come from: ``np.exp`` and ``numpy.exp`` are the same."""

    def __init__(self, tree: ast.Module) -> None:
        self.imported: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        self.imported[alias.asname] = alias.name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Replace a name that was imported by where it comes from."""
        source = self.imported.get(node.id)
        if source is None:
            return node
        first, *others = source.split(".")
        if first in PROJECT:
            return ast.Name(others[-1])
        whole: ast.expr = ast.Name(first)
        for part in others:
            whole = ast.Attribute(whole, part)
        return whole

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Leave out a module of this project before the name that is taken from it."""
        base = node.value
        if isinstance(base, ast.Name):
            source = self.imported.get(base.id, "")
            if source.partition(".")[0] in PROJECT and source.rpartition(".")[2].islower():
                return ast.Name(node.attr)
        self.generic_visit(node)
        return node


def _statements(body: list[ast.stmt], documented: bool) -> list[ast.stmt]:
    """The statements of a body without imports and, if it is ``documented``, its docstring."""
    first = body[0] if documented and body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        body = body[1:] if isinstance(first.value.value, str) else body
    kept = [node for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return [node for node in kept if not _only_imports(node)]


def _only_imports(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and not _statements(node.body + node.orelse, documented=False)


def _name(node: ast.stmt) -> str:
    target: ast.AST = node
    if isinstance(node, ast.Assign):
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    return getattr(target, "name", getattr(target, "id", ""))


def _form(node: object) -> str:
    """A syntax tree as text that is the same in every version of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_form, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    tree: ast.AST = node
    if isinstance(tree, ast.AnnAssign):  # ``x: int = 3`` is ``x = 3``; without a value a field
        tree = ast.Assign([tree.target], tree.value) if tree.value else ast.Expr(tree.target)
    parts = []
    for field, value in ast.iter_fields(tree):
        if field == "body" and isinstance(value, list):
            value = _statements(value, isinstance(tree, _Docstring))
        if field not in _IGNORED and value is not None and value != []:
            parts.append(f"{field}={_form(value)}")
    return f"{type(tree).__name__}({', '.join(parts)})"
