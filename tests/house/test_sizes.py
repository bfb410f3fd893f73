"""Files, functions and packages that are read in one sitting, and `Any` at the borders alone."""

import ast
import tomllib

import pytest

from tests.helpers import sources
from tests.helpers.sources import ROOT

FILE_LINES, FUNCTION_LINES, TEST_FILE_LINES = 400, 60, 500
LIBRARY = sources.files("bench", "shared", "twingrad")
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def _long_functions(source: str) -> list[str]:
    return [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in sources.nodes(source)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("files", "most"), [(LIBRARY, FILE_LINES), (TESTS, TEST_FILE_LINES)])
def test_no_file_is_too_long_to_read(files, most):
    long = {path.relative_to(ROOT).as_posix(): _lines(path) for path in files}
    assert {name: lines for name, lines in long.items() if lines > most} == {}


def test_no_function_is_too_long_to_read():
    long = {
        sources.module_name(path): _long_functions(path.read_text(encoding="utf-8"))
        for path in LIBRARY
    }
    assert {name: functions for name, functions in long.items() if functions} == {}


def test_a_planted_long_function_is_seen():
    assert len(_long_functions("def f():\n" + "    x = 1\n" * FUNCTION_LINES)) == 1
    assert _long_functions("def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1)) == []


def test_only_packages_and_data_lie_directly_in_the_workbench():
    names = {path.name for path in (ROOT / "bench").iterdir() if path.name != "__pycache__"}
    packages = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert names - packages == {"__init__.py", "__main__.py", "results", "templates"}


def _border_modules() -> list[str]:
    """The modules that mypy lets write ``Any``."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"]
    assert settings["disallow_any_explicit"]
    allowed = [
        override["module"]
        for override in settings["overrides"]
        if override.get("disallow_any_explicit") is False
    ]
    return [module for modules in allowed for module in modules if not module.endswith(".*")]


def test_any_is_written_in_the_border_modules_alone():
    known = sources.sources()
    writes = {name for name, text in known.items() if "typing.Any" in sources.imports(text)}
    assert writes == set(_border_modules())
