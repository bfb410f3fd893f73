"""The command line: ``twingrad`` and ``python -m twingrad``.

Commands for pairs of models are the library's own. All others are the workbench's, which comes
with a checkout of the project and is handed the call.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from twingrad import user_code
from twingrad.cli import library_commands
from twingrad.environment import checkout, install_command, missing_packages

# Commands of the built-in programs. Those of pairs in files are answered before these are.
_WORKBENCH = (
    *("tensors", "compare", "mutants", "diagnose"),
    *("train", "sample", "export", "bench", "plan", "report"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return exit_status(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
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


def exit_status(run: Callable[[], int]) -> int:
    """The status that ``run`` returns; what it raises becomes one sentence on stderr and 2.

    Under the sentence about an error in the user's own code stand the lines of that code.
    """
    # PyTorch asks the kernel for large pages, which spares thousands of faults a large tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Its threads sleep while they wait. By default they spin, and where JAX or another program
    # wants the core that they spin on, a step takes many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return run()
    except ValueError as error:
        lines = user_code.lines(error)
        print("\n".join(["twingrad: " + lines[0], *lines[1:]]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("twingrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = "" if error.filename is None else f"{str(error.filename)[:200]}: "
        print(f"twingrad: {place}{error.strerror or error}; give another path", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"twingrad: not enough memory ({error}): ask for something smaller", file=sys.stderr)
        return 2
