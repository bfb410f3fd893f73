"""Measure how good the tests are, and write a record: see the package."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.harness import records
from bench.studies import quality
from tests.quality import bugs, covered, mutation, times


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one thing; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("what", choices=["coverage", "mutants", "bugs", "times"])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the record here")
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, help="keep here what was found, and go on from it"
    )
    parser.add_argument(
        "--part", metavar="NAME", action="append", default=[],
        help="coverage: of this folder of tests; mutants: of this part; times: of quick, or 3/10",
    )  # fmt: skip
    parser.add_argument(
        "--slow", metavar="NAME", action="append", default=[],
        help="coverage: also by the slow tests of this folder of tests",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, help="draw other mutants, or other bugs")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.data or Path(temporary)).resolve()
        if options.what == "coverage":
            record = covered.measure(folder, options.part, options.slow)
        elif options.what == "mutants":
            record = mutation.measure(folder, options.part, options.seed or mutation.SEED)
        elif options.what == "times":
            record = times.measure(folder, options.part)
        else:
            record = bugs.measure(folder, options.seed or bugs.SEED)
    if options.json:
        records.save(options.json, record)
    broken = list(quality.broken(options.what, record))
    for line in broken:
        print(line)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
