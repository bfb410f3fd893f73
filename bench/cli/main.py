"""The front door: ``twingrad`` and ``python -m bench``."""

import sys
from collections.abc import Sequence

from bench.cli import measure, train, verify
from twingrad.cli import library_commands
from twingrad.cli.commands import Command, run_command
from twingrad.cli.completion import completion_command
from twingrad.cli.ending import exit_status

ABOUT = "The same programs in PyTorch and in JAX, tested equal, tensor by tensor."
COMMANDS: tuple[Command, ...] = (
    *verify.COMMANDS,
    *train.COMMANDS,
    *measure.COMMANDS,
    *library_commands.PAIR_COMMANDS,  # of one name with a program's, the program's comes first
    library_commands.PHRASES,
    library_commands.DOCTOR,
    completion_command(lambda: COMMANDS),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong.

    A call about a pair in a file, or about the installation, is the library's to answer.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    run = library_commands.run if library_commands.answers(arguments) else _run
    return exit_status(lambda: run(arguments))


def _run(arguments: Sequence[str]) -> int:
    return run_command(COMMANDS, arguments, ABOUT)
