"""The front door: ``twingrad`` and ``python -m bench``."""

import sys
from collections.abc import Sequence

from bench.cli.measure import add_bench, add_plan, add_report
from bench.cli.train import add_sample, add_train
from bench.cli.verify import add_diagnose, add_verify
from twingrad.cli import pair_commands
from twingrad.cli.main import exit_status
from twingrad.cli.options import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong.

    A call about a pair in a file is the library's to answer.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    run = pair_commands.run if pair_commands.answers(arguments) else _run
    return exit_status(lambda: run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parsed = _parser().parse_args(arguments)
    parsed.argv = list(arguments)
    status: int = parsed.run(parsed)
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="twingrad",
        description="The same programs in PyTorch and in JAX, tested equal, tensor by tensor.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (add_verify, add_diagnose, add_train, add_sample, add_bench, add_plan, add_report):
        add(commands)
    return parser
