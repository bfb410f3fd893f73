"""The commands ``bench``, ``plan`` and ``report``, and what each runs."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twingrad.cli.commands import MEASURING, Command, OptionSource
from twingrad.cli.options import option, read_options
from twingrad.files import require_writable
from twingrad.printable import printable


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of ``report``."""

    html: Path = option(Path("report.html"), metavar="FILE", help="where to write the page")


def _bench_options() -> Sequence[OptionSource]:
    from bench.speed.options import BenchOptions

    return (BenchOptions,)


def _plan_options() -> Sequence[OptionSource]:
    from bench.planning.options import STEP_SETTINGS, PlanOptions
    from bench.training.config import RunSettings

    return (PlanOptions, (RunSettings, STEP_SETTINGS))


def run_report(arguments: argparse.Namespace) -> int:
    """Write the report page."""
    from bench.reporting import html

    options = read_options(ReportOptions, arguments)
    require_writable(options.html)
    html.write(options.html)
    text = f"{options.html} holds the twins side by side, and all that was measured of them"
    print(printable(text))
    return 0


def run_bench(arguments: argparse.Namespace) -> int:
    """Run, check or render a benchmark."""
    from bench.speed import command
    from bench.speed.options import BenchOptions
    from twingrad.terminal import new_console

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
    from bench.planning.options import STEP_SETTINGS, PlanOptions
    from bench.training.config import RunSettings
    from twingrad.terminal import new_console

    options = read_options(PlanOptions, arguments)
    require_writable(options.json)
    settings = read_options(RunSettings, arguments, only=STEP_SETTINGS)
    return command.run(replace(options, settings=settings), new_console())


COMMANDS = (
    Command(
        name="bench",
        group=MEASURING,
        summary="time both frameworks and their peers, checked to be equal",
        about="Time both frameworks, idiomatic and tuned, and the peers that you name, on the same "
        "weights and tokens, after a check that all of them compute the same.",
        examples=(
            ("twingrad bench", "an overview within three minutes"),
            (
                "twingrad bench --workload train --preset 124m --contestants torch,jax,nanogpt "
                "--peer nanogpt=../nanoGPT",
                "training next to a checkout of nanoGPT",
            ),
            ("twingrad bench --check speed.json", "judge a record that somebody made"),
            ("twingrad bench my_pair.py", "a pair of your own"),
        ),
        options=_bench_options,
        run=run_bench,
    ),
    Command(
        name="plan",
        group=MEASURING,
        summary="predict a training step: memory, communication and time",
        about="Predict the memory, communication and time of a training step, on one device or "
        "many.",
        examples=(
            ("twingrad plan --preset 124m --batch-size 4", "one CPU"),
            (
                "twingrad plan --preset gpt2-xl --device cuda --devices 8 --recompute",
                "every arrangement of eight GPUs",
            ),
            (
                "twingrad plan --preset gpt2-xl --device h100 --dtype bfloat16",
                "one GPU, by its datasheet",
            ),
        ),
        options=_plan_options,
        run=run_plan,
    ),
    Command(
        name="report",
        group=MEASURING,
        summary="write a page: both sources, and every measurement",
        about="Write a page with the two implementations side by side, and every committed "
        "measurement of them.",
        examples=(("twingrad report --html twins.html", "a page to open in a browser"),),
        options=lambda: (ReportOptions,),
        run=run_report,
    ),
)
