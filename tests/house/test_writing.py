"""Who may write files: what a user names is written by ``whole`` alone, whatever is there."""

import ast

import pytest

from tests.helpers import sources

# Modules that open, rename or copy files by themselves, and what these are.
WRITERS = {
    "shared.whole": "files and folders that are there whole or not at all",
    "twingrad.whole": "the same, for the library",
    "bench.planning.validation": "its temporary folder",
    "bench.reporting.figures": "pictures of the documentation",
    "bench.speed.reference": "its temporary folder",
    "bench.speed.stage_files": "its temporary folder",
    "bench.speed.worker": "settings of its own process in /proc",
    "bench.speed.worker_process": "its temporary folder",
    "bench.training.framework_run": "lines at the end of a run's metrics",
    "bench.training.library_output": "the null device",
    "bench.tutorial.__main__": "pages of the tutorial",
    "shared.checkpoint.folders": "checkpoints, which it makes whole",
    "shared.checkpoint.writing": "a checkpoint that is not whole yet",
    "shared.rendezvous.token": "the token of a run",
    "twingrad.cli.ending": "a traceback in a temporary file, and the null device",
    "twingrad.convert.writer": "a folder that is not whole yet",
    "twingrad.pair": "a new file alone",
    "twingrad.record.files": "a folder that is not whole yet",
}
_WRITING = {
    "write_text",
    "write_bytes",
    "replace",
    "rename",
    "renames",
    "copyfile",
    "copy2",
    "move",
}
_MODULES = {"os", "shutil"}


def _writes(source: str) -> list[str]:
    """The calls of ``source`` that write, rename or copy a file."""
    return [
        ast.unparse(node)
        for node in sources.nodes(source)
        if isinstance(node, ast.Call) and (_opens(node) or _renames(node))
    ]


def _opens(call: ast.Call) -> bool:
    """Whether ``open(file, mode)``, ``os.fdopen(handle, mode)`` or ``path.open(mode)`` writes."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name not in ("open", "fdopen"):
        return False
    is_path = isinstance(call.func, ast.Attribute) and name == "open"
    place = 0 if is_path else 1
    given = [one.value for one in call.keywords if one.arg == "mode"]
    given += call.args[place : place + 1]
    modes = [one.value for one in given if isinstance(one, ast.Constant)]
    return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)


def _renames(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _WRITING:
        return False
    if call.func.attr in ("write_text", "write_bytes"):
        return True
    of_module = isinstance(call.func.value, ast.Name) and call.func.value.id in _MODULES
    return of_module or (call.func.attr == "rename" and len(call.args) == 1)


def test_only_the_modules_named_write_files_by_themselves():
    found = {name for name, text in sources.sources().items() if _writes(text)}
    assert found == WRITERS.keys()


@pytest.mark.parametrize(
    "source",
    [
        "open('x', 'w')",
        "path.open(mode='ab')",
        "os.fdopen(handle, 'r+b')",
        "path.write_text('x')",
        "os.replace(a, b)",
        "path.rename(other)",
        "shutil.copyfile(a, b)",
    ],
)
def test_a_planted_write_is_seen(source):
    assert len(_writes(source)) == 1


@pytest.mark.parametrize("source", ["open('x')", "open('x', 'rb')", "text.replace('a', 'b')"])
def test_reading_is_not_writing(source):
    assert _writes(source) == []
