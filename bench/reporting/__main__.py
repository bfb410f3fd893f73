"""Render README, docs and their pictures again from the records and the sources.

``python -m bench.reporting`` rewrites every block between markers; with ``--check`` it changes
nothing, and ends with status 1 where a page differs from the records.
"""

import sys

from bench.reporting import markdown
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser


def main(argv: list[str] | None = None) -> int:
    """Render or check the pages; 1 where ``--check`` finds a difference, 2 for a bad record."""
    parser = Parser(prog="python -m bench.reporting", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    try:
        return markdown.render(parser.parse_args(argv).check)
    except ValueError as error:
        print(f"reporting: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(exit_status(main))
