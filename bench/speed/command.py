"""Run ``twingrad bench``: measure, print the tables, write the record."""

import json
import signal
import sys
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from bench.harness import records
from bench.speed import record, tables
from bench.speed.benchmark import Bench
from bench.speed.options import BenchOptions
from bench.speed.stage_files import Progress


def run(options: BenchOptions, console: Console) -> int:
    """Measure, show, and write the record; 0 if every contestant was checked and timed, else 1."""
    bench = Bench(options)
    code = 0
    with console.status("starting") as status:
        bench.tell = _progress(console, status, bench)
        # A run that is ended from outside is worth as much as one that Ctrl-C ended.
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            bench.measure()
        except KeyboardInterrupt:
            bench.interrupted = True
            code = 130
        finally:
            signal.signal(signal.SIGTERM, before)
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
        print(record.check(options.check))
    except record.Refused as refused:
        print(f"twingrad: {refused}", file=sys.stderr)
        return 1
    return 0


def _progress(console: Console, status: Status, bench: Bench) -> Progress:
    """A line that changes on a terminal; elsewhere lines on stderr, but none for details."""

    def tell(text: str, *, detail: bool = False) -> None:
        timed = f"{bench.elapsed():4.0f} s  {text}"
        if console.is_terminal:
            status.update(escape(timed))
        elif not detail:
            print(timed, file=sys.stderr, flush=True)

    return tell


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
