"""Run ``twingrad bench``: measure, print the tables, write the record."""

import json
import sys

from rich.console import Console

from bench.harness import ending, records, terminal
from bench.speed import record, tables
from bench.speed.benchmark import Bench
from bench.speed.options import BenchOptions
from twingrad.printable import printable, sentence


def run(options: BenchOptions, console: Console) -> int:
    """Measure, show, and write the record; 0 if every contestant was checked and timed, else 1."""
    bench = Bench(options)
    code = 0
    with terminal.progress(console) as bench.tell:
        try:
            # A run that is ended from outside is worth as much as one that Ctrl-C ended.
            with ending.interruptible():
                bench.measure()
        except KeyboardInterrupt:
            bench.interrupted = True
            code = 130
    measured = bench.record()
    if options.json:
        records.write_json(options.json, measured.to_json())
    tables.show(console, measured)
    print(json.dumps(tables.summary(measured, options.json)), flush=True)
    if code:
        console.print("Interrupted: what was measured until then is kept.")
        return code
    return 0 if measured.ok else 1


def check(options: BenchOptions) -> int:
    """Check the record that the options name: 0 if it holds, else 1."""
    if options.check is None:
        raise ValueError("--check takes a file")
    try:
        print(printable(record.check(options.check)))
    except record.Refused as refused:
        print(f"twingrad: {sentence(str(refused))}", file=sys.stderr)
        return 1
    return 0
