"""All measurements of one GPU by one command, most important first.

``python -m bench.gpu`` measures and compares both frameworks and writes every record to a folder as
soon as there is something to write. A call that was cut off is gone on with by the same call again.
"""

import sys
from collections.abc import Sequence

from bench.gpu.options import GpuOptions
from bench.harness import terminal
from twingrad import compile_cache
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser, add_options, read_options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; 0 where nothing is, 1 else, 2 for a wrong call, 130 interrupted."""
    return exit_status(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    compile_cache.disable()  # what compiling costs is among the things that are measured
    parser = Parser(prog="python -m bench.gpu", description=__doc__)
    add_options(parser, GpuOptions)
    options = read_options(GpuOptions, parser.parse_args(argv))
    from bench.gpu import command

    return command.run(options, terminal.new_console())


if __name__ == "__main__":
    sys.exit(main())
