"""Measure how good the tests are, and write a record: see the package."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.harness import records
from bench.harness.records import Record
from bench.studies import quality
from tests.quality import bugs, covered, mutation, times
from tests.quality.reach import TestsFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one thing; 1 where a bound is broken, 2 where it cannot be measured."""
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
    try:
        for folder in (options.data, options.json and options.json.parent):
            _require_folder(folder)
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.data or Path(temporary)).resolve()
            record = _measured(options, folder)
    except (ValueError, TestsFailed) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    if options.json:
        records.save(options.json, record)
    broken = list(quality.broken(options.what, record))
    for line in broken:
        print(line)
    return 1 if broken else 0


def _require_folder(path: Path | None) -> None:
    """Raise ``ValueError`` unless files can be written to ``path``, before hours are spent."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {path}: {error.strerror}; name another folder") from None


def _measured(options: argparse.Namespace, folder: Path) -> Record:
    if options.what == "coverage":
        return covered.measure(folder, options.part, options.slow)
    if options.what == "mutants":
        return mutation.measure(folder, options.part, options.seed or mutation.SEED)
    if options.what == "times":
        return times.measure(folder, options.part)
    return bugs.measure(folder, options.seed or bugs.SEED)


if __name__ == "__main__":
    sys.exit(main())
