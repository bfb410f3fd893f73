"""Parsers and handlers of the measuring commands: ``bench``, ``plan`` and ``report``."""

import argparse
from dataclasses import replace
from pathlib import Path

from bench.cli.options import Commands
from bench.planning.options import STEP_SETTINGS, PlanOptions
from bench.speed.options import BenchOptions
from bench.training.config import RunSettings
from twingrad.cli.options import add_options, read_options
from twingrad.files import require_writable
from twingrad.terminal import new_console


def add_bench(commands: Commands) -> None:
    """Add the parser of ``bench``."""
    bench = commands.add_parser(
        "bench", help="time both frameworks and their peers, each checked to compute the same"
    )
    add_options(bench, BenchOptions)
    bench.set_defaults(run=run_bench)


def add_plan(commands: Commands) -> None:
    """Add the parser of ``plan``."""
    plan = commands.add_parser(
        "plan", help="memory, exchange and time of a training step, without taking one"
    )
    add_options(plan, PlanOptions)
    add_options(plan, RunSettings, only=STEP_SETTINGS)
    plan.set_defaults(run=run_plan)


def add_report(commands: Commands) -> None:
    """Add the parser of ``report``."""
    report = commands.add_parser(
        "report", help="write a page: the twins side by side, and all that was measured of them"
    )
    report.add_argument(
        "--html", type=Path, default=Path("report.html"), metavar="FILE", help="default report.html"
    )
    report.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> int:
    """Write the report page."""
    from bench.reporting import html

    require_writable(arguments.html)
    html.write(arguments.html)
    print(f"{arguments.html} holds the twins side by side, and all that was measured of them")
    return 0


def run_bench(arguments: argparse.Namespace) -> int:
    """Run, check or render a benchmark."""
    from bench.speed import command

    if arguments.render:
        from bench.reporting import markdown

        return markdown.render()
    options = read_options(BenchOptions, arguments)
    if options.check:
        return command.check(options)
    require_writable(options.json)
    return command.run(options, new_console())


def run_plan(arguments: argparse.Namespace) -> int:
    """Print plans of a training step."""
    from bench.planning import command

    options = read_options(PlanOptions, arguments)
    require_writable(options.json)
    settings = read_options(RunSettings, arguments, only=STEP_SETTINGS)
    return command.run(replace(options, settings=settings), new_console())
