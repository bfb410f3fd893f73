"""Of what kind a line of code is that no test reaches, by its place in the syntax tree."""

import ast
from collections.abc import Iterator, Sequence

from bench.studies.quality import OTHER

ERRORS = "where an error is raised or handled"
EARLY = "where a function or a round of a loop ends early"
GPU = "what a GPU alone does"
_EARLY = (ast.Return, ast.Continue, ast.Break, ast.Pass)


def counts(text: str, lines: Sequence[int]) -> dict[str, int]:
    """How many of the lines are of each kind."""
    tree = ast.parse(text)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    # The innermost comes last.
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    found: dict[str, int] = {}
    for line in lines:
        around = [node for node in statements if node.lineno <= line <= (node.end_lineno or 0)]
        inmost = max(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
        kind = _kind([inmost, *_outwards(inmost, parents)])
        found[kind] = found.get(kind, 0) + 1
    return found


def _outwards(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _kind(chain: Sequence[ast.AST]) -> str:
    statement, *outer = chain
    if any(isinstance(node, ast.ExceptHandler) for node in outer):
        return ERRORS
    if isinstance(statement, ast.Raise) or (outer and _ends_in_raise(statement, outer[0])):
        return ERRORS
    if any(isinstance(node, ast.If) and "cuda" in ast.unparse(node.test) for node in outer):
        return GPU
    if isinstance(statement, _EARLY) and _is_constant(statement):
        return EARLY
    return OTHER


def _ends_in_raise(statement: ast.AST, parent: ast.AST) -> bool:
    """Whether the statement prepares an error: its branch ends in ``raise``."""
    if not isinstance(parent, ast.If):
        return False
    branch = parent.body if statement in parent.body else parent.orelse
    return bool(branch) and isinstance(branch[-1], ast.Raise)


def _is_constant(statement: ast.AST) -> bool:
    value = getattr(statement, "value", None)
    return value is None or isinstance(value, ast.Constant)
