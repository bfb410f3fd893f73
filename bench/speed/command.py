"""Run ``twingrad bench``: measure, print the tables, write the record."""

import json
import signal
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.harness import records
from bench.speed import tables
from bench.speed.benchmark import Asked, Bench


def run(asked: Asked, console: Console) -> int:
    """Race, show, and write the record; 0 if every contestant was certified and timed, else 1."""
    bench = Bench(asked)
    code = 0
    with console.status("starting") as status:
        bench.tell = lambda text: _tell(console, status, f"{bench.elapsed():4.0f} s  {text}")
        # Ended from outside, a run is worth as much as one that Ctrl-C ended.
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            bench.measure()
        except KeyboardInterrupt:
            bench.interrupted = True
            code = 130
        finally:
            signal.signal(signal.SIGTERM, before)
    found = bench.report()
    if asked.json:
        records.write_json(asked.json, found)
    tables.show(console, found)
    print(json.dumps(tables.summary(found, asked.json)), flush=True)
    if code:
        console.print("Interrupted: what was measured until then is kept.")
        return code
    return 0 if tables.good(found) else 1


def _tell(console: Console, status: Any, text: str) -> None:
    """Progress: a line that changes on a terminal, lines on stderr elsewhere, but none a round."""
    if console.is_terminal:
        status.update(escape(text))
    elif " round " not in text:
        print(text, file=sys.stderr, flush=True)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
