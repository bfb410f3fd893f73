"""Run the tutorial's pages, and render their listings and notebooks from what the blocks printed.

``python -m bench.tutorial`` pastes every page into Python, in both columns, and rewrites listings
and notebooks; with names such as ``tutorial-2-tensors`` only those pages.
"""

import sys

from bench.harness import frameworks
from bench.tutorial import listings, notebooks, pages
from bench.tutorial.prompt import run
from twingrad.cli.ending import exit_status
from twingrad.cli.options import Parser


def main(argv: list[str] | None = None) -> int:
    """Render the pages; 2 where a page's name or form is wrong."""
    parser = Parser(prog="python -m bench.tutorial", description=__doc__)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="a page's name; otherwise all")
    known = {page.stem: page for page in pages.tutorial()}
    try:
        names = parser.parse_args(argv).pages
        for name in names or known:
            if name not in known:
                raise ValueError(f"unknown page {name!r}: choose from {', '.join(known)}")
            page = known[name]
            columns = {side: list(run(page, side, {"__name__": name})) for side in frameworks.NAMES}
            page.write_text(listings.rendered(page, columns), encoding="utf-8")
            notebooks.write(page, columns)
    except ValueError as error:
        print(f"tutorial: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
