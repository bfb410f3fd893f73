"""Parsers and handlers of the measuring commands: ``bench``, ``plan`` and ``report``."""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from bench.cli.options import DEVICES, Commands, choice
from bench.planning.options import STEP_SETTINGS, PlanOptions
from bench.training.config import RunSettings
from shared.config import PRESETS
from twingrad.cli.options import add_options, read_options
from twingrad.files import require_writable
from twingrad.terminal import new_console

_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_bench(commands: Commands) -> None:
    """Add the parser of ``bench``."""
    bench = commands.add_parser(
        "bench", help="time both frameworks and their peers, each certified to compute the same"
    )
    bench.add_argument(
        "--workload",
        nargs="+",
        metavar="W",
        help="overhead, forward, forward-backward, train, decode, cold, growth; default overhead "
        "and train, on a GPU the first five",
    )
    bench.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}; default small")
    bench.add_argument("--device", default="auto", help=", ".join(DEVICES))
    bench.add_argument("--dtype", help="float32 (default on a CPU), bfloat16 (default on a GPU)")
    bench.add_argument(
        "--contestants",
        metavar="A,B",
        help="torch and jax (default, each idiomatic and tuned), lean, torch-ladder, jax-ladder, "
        "hf, hf-compiled, hf-tuned, flax-reference, flax-reference-tuned, or one of a group",
    )
    bench.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a checkout, which is run: nanogpt=PATH, or a Python file that defines a class Racer",
    )
    bench.add_argument("--batch-size", type=int, metavar="B", help="sequences a step")
    bench.add_argument("--length", type=int, metavar="T", help="tokens a sequence")
    bench.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="clean samples wanted of each, at least 3 a process",
    )
    bench.add_argument(
        "--starts",
        type=int,
        metavar="N",
        help="processes that each contestant gets, one after the other: 1, or 3 and more; default "
        "4, but 1 for growth, with --budget, and without --workload and --preset on a CPU",
    )
    bench.add_argument("--budget", metavar="9m", help="end within this time: 90s, 9m, 1h")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the record")
    bench.add_argument("--check", type=Path, metavar="FILE", help="judge a record, and no more")
    bench.add_argument(
        "--render", action="store_true", help="render tables and plots again from committed records"
    )
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
    from bench.speed import benchmark, command, record, statistics, workloads

    if arguments.render:
        from bench.reporting import markdown

        return markdown.render()
    if arguments.check:
        try:
            print(record.check(arguments.check))
        except record.Refused as refused:
            print(f"twingrad: {refused}", file=sys.stderr)
            return 1
        return 0
    chosen = [name for word in arguments.workload or [] for name in word.split(",")]
    for name in chosen:
        choice("workload", name, workloads.WORKLOADS)
    if arguments.preset is not None:
        choice("preset", arguments.preset, tuple(PRESETS))
    if arguments.dtype is not None:
        choice("dtype", arguments.dtype, ("float32", "tf32", "bfloat16"))
    choice("device", arguments.device, DEVICES)
    for name in ("batch_size", "length", "samples", "starts"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: expected 1 or more")
    if 1 < (arguments.starts or 1) < statistics.STARTS:
        raise ValueError(
            f"--starts is {arguments.starts}, too few to tell processes apart by: give 1, or "
            f"{statistics.STARTS} and more"
        )
    named = [name.strip() for name in (arguments.contestants or "").split(",")]
    if arguments.contestants is not None and not all(named):
        raise ValueError(f"--contestants is {arguments.contestants!r}: expected names, as in A,B")
    require_writable(arguments.json)
    asked = benchmark.Asked(
        workloads=tuple(dict.fromkeys(chosen)),
        preset=arguments.preset,
        device=arguments.device,
        contestants=tuple(filter(None, named)),
        peers=dict(_peer(given) for given in arguments.peer),
        json=arguments.json,
        budget=_seconds(arguments.budget) if arguments.budget else None,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        length=arguments.length,
        samples=arguments.samples or benchmark.WANTED,
        starts=arguments.starts,
    )
    return command.run(asked, new_console())


def run_plan(arguments: argparse.Namespace) -> int:
    """Print plans of a training step."""
    from bench.planning import command

    options = read_options(PlanOptions, arguments)
    require_writable(options.json)
    settings = read_options(RunSettings, arguments, only=STEP_SETTINGS)
    return command.run(replace(options, settings=settings), new_console())


def _peer(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not (name and equals and path):
        raise ValueError(f"--peer is {given!r}: expected NAME=PATH, as in nanogpt=../nanoGPT")
    if not re.fullmatch(r"\w[\w.-]*", name):  # files are named after it
        raise ValueError(f"--peer is named {name!r}: expected letters, digits, '_', '.' and '-'")
    return name, Path(path)


def _seconds(text: str) -> float:
    """``90s``, ``9m`` or ``1h``, or plain seconds."""
    number, scale = text, 1
    if text[-1:] in _UNITS:
        number, scale = text[:-1], _UNITS[text[-1]]
    try:
        found = float(number) * scale
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError(f"--budget is {text!r}: expected a time such as 90s, 9m or 1h")
    return found
