"""The command line: ``twingrad`` and ``python -m twingrad``.

Commands for pairs of models are the library's own. All others are the workbench's, which comes
with a checkout of the project and is handed the call.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from twingrad import lifeline
from twingrad.cli import apart, library_commands, surroundings
from twingrad.cli.ending import exit_status, open_standard_streams
from twingrad.environment import checkout, install_command, missing_packages

# Commands of the built-in programs. Those of pairs in files are answered before these are.
_WORKBENCH = (
    *("tensors", "compare", "mutants", "diagnose"),
    *("train", "sample", "export", "bench", "plan", "report"),
)
# Commands that start JAX, or may.
_COMPUTING = (*_WORKBENCH, "record", "convert")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong.

    Without ``argv``, as a program of its own: a command that runs a pair's code does so in another
    process, which that code may end in any way.
    """
    if argv is not None:
        return exit_status(lambda: _run(list(argv)))
    arguments = sys.argv[1:]
    open_standard_streams()
    lifeline.end_with_parent_if_told(os.environ)
    if library_commands.runs_a_pair(arguments):
        return apart.run(lambda: exit_status(lambda: _run(arguments)))
    return exit_status(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in _COMPUTING:
        surroundings.require_known_flags(os.environ)
    if library_commands.answers(arguments):
        return library_commands.run(arguments)
    root = checkout()
    missing = [] if root is None else missing_packages(root, "bench")
    if root is not None and not missing:
        return _run_workbench(root, arguments)
    note = library_commands.NOTE
    if root is not None:
        note = f"The built-in programs need {', '.join(missing)}: run {install_command('bench')}."
    if arguments and arguments[0] in _WORKBENCH:
        if root is not None:
            raise ValueError(note.rstrip("."))
        raise ValueError(
            f"{' '.join(['twingrad', *arguments[:2]])!r} is about the built-in programs, which "
            "come with a checkout of the project: clone it, pip install -e '.[torch,jax,bench]' "
            "there, and ask again; compare FILE.py, diagnose FILE.py, bench FILE.py and init-pair "
            "FILE.py work everywhere"
        )
    return library_commands.run(arguments, note)


def _run_workbench(root: Path, arguments: list[str]) -> int:
    """Hand the call to ``bench``, which only a checkout has; its processes find it too."""
    sys.path[:] = [str(root), *(entry for entry in sys.path if entry != str(root))]
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [str(root), *(entry for entry in before if entry not in ("", str(root)))]
    os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    run: Callable[[Sequence[str]], int] = importlib.import_module("bench.cli.main").main
    return run(arguments)
