"""Of what kind a line of code is that no test reaches, by its place in the syntax tree."""

import ast
from collections.abc import Iterator, Sequence

from bench.studies.quality import OTHER

ERRORS = "where an error is raised or handled"
BARE = "a bare `return`, `continue`, `break` or `pass`"
GPU = "what a GPU alone does"
_BARE = (ast.Return, ast.Continue, ast.Break, ast.Pass)


def counts(text: str, lines: Sequence[int]) -> dict[str, int]:
    """How many of the lines are of each kind."""
    tree = ast.parse(text)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    places = [
        (_first_line(node), node.end_lineno or node.lineno, node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.stmt, ast.ExceptHandler))
    ]
    found: dict[str, int] = {}
    for line in lines:
        around = [place for place in places if place[0] <= line <= place[1]]
        *_, inmost = max(around, key=lambda place: (place[0], -place[1]))
        kind = _kind([inmost, *_outwards(inmost, parents)])
        found[kind] = found.get(kind, 0) + 1
    return found


def _first_line(node: ast.stmt | ast.ExceptHandler) -> int:
    """The line on which a statement begins, with its decorators."""
    above = getattr(node, "decorator_list", ())
    return min([node.lineno, *(decorator.lineno for decorator in above)])


def _outwards(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _kind(chain: Sequence[ast.AST]) -> str:
    statement, *outer = chain
    if any(isinstance(node, ast.ExceptHandler) for node in chain):
        return ERRORS
    if isinstance(statement, ast.Raise) or (outer and _ends_in_raise(statement, outer[0])):
        return ERRORS
    if any(_is_of_gpu(node, within) for within, node in zip(chain, outer, strict=False)):
        return GPU
    if isinstance(statement, _BARE) and _is_constant(statement):
        return BARE
    return OTHER


def _ends_in_raise(statement: ast.AST, parent: ast.AST) -> bool:
    """Whether the statement prepares an error: its branch ends in ``raise``."""
    if not isinstance(parent, ast.If):
        return False
    branch = parent.body if statement in parent.body else parent.orelse
    return bool(branch) and isinstance(branch[-1], ast.Raise)


def _is_of_gpu(node: ast.AST, within: ast.AST) -> bool:
    """Whether ``within`` runs because the condition of ``node`` finds a GPU."""
    if not isinstance(node, ast.If) or within not in node.body:
        return False
    condition = ast.unparse(node.test)
    return "cuda" in condition and "not " not in condition and "!=" not in condition


def _is_constant(statement: ast.AST) -> bool:
    value = getattr(statement, "value", None)
    return value is None or isinstance(value, ast.Constant)
