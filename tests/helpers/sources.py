"""The project's own sources, read as text: modules, what each imports, and circles of imports."""

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "jax_impl", "shared", "torch_impl", "twingrad")


def files(*packages: str) -> list[Path]:
    """Every Python file of the packages, or of all of them."""
    return [p for name in packages or PACKAGES for p in sorted((ROOT / name).rglob("*.py"))]


def module_name(path: Path) -> str:
    """The dotted name of a file; a package's is that of its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    """The text of every module of the project, by its dotted name."""
    return {module_name(path): path.read_text(encoding="utf-8") for path in files()}


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a source's syntax tree, parsed once for all tests of a process."""
    return tuple(ast.walk(ast.parse(source)))


def imports(source: str) -> Iterator[str]:
    """Every name that ``source`` imports, dotted, at its top or anywhere within.

    ``from a import b`` yields ``a.b``; a relative import begins with its dots.
    """
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_modules(source: str, known: Mapping[str, str]) -> set[str]:
    """The modules of ``known`` that ``source`` imports, or imports a name from."""
    modules = set()
    for name in imports(source):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name:
            modules.add(name)
    return modules


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or through others."""
    reachable = {name: _reachable(name, edges) for name in edges}
    groups = {
        tuple(sorted(other for other in reachable[name] if name in reachable.get(other, ())))
        for name in edges
        if name in reachable[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(name: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges.get(name, ()))
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += edges.get(module, ())
    return seen
