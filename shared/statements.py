"""The statement of a file that a line belongs to, and the names that it assigns."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# A frame of the stack: its file, the line that runs, and the function.
Frame = tuple[str, int, str]


def assigned(frames: Iterable[Frame], folder: Path) -> str:
    """The names that code of ``folder`` is about to assign; the innermost frame comes first.

    A frame that returns its value leaves it to its caller to name it. Where nobody does, the name
    is that of the innermost function; empty where no frame is of a file in ``folder``.
    """
    functions = []
    for file, line, function in frames:
        if Path(file).parent == folder:
            functions.append(function.rpartition(".")[2])
            if names := _names(file).get(line):
                return names
    return functions[0] if functions else ""


@cache
def _names(file: str) -> dict[int, str]:
    """The names that are assigned by the statement of each line, without lines that assign none."""
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign):
            names = ", ".join(ast.unparse(target).strip("()") for target in node.targets)
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), names)
    return found
