"""The commands for pairs of models in files: ``init-pair``, ``compare`` and ``diagnose``."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from twingrad import outcome_tables
from twingrad.cli.imports import without_checkout
from twingrad.cli.options import Parser, add_options, option, read_options
from twingrad.diagnosis.finding import Finding, as_object
from twingrad.environment import (
    Environment,
    environment,
    installed_versions,
    require_frameworks,
)
from twingrad.files import require_writable, write_bytes, write_json
from twingrad.outcome import Outcome, outcome_object
from twingrad.page import comparison_page
from twingrad.pair import Pair, importing_beside, load, write_starter
from twingrad.terminal import new_console, put, saying, table

_FLAGS = ("-h", "--help", "--all")  # the options that no value follows
_OF_GPT2 = ("preset", "weights", "tokens", "save")


@dataclass(frozen=True, kw_only=True)
class InitPairOptions:
    """Options of ``init-pair``."""

    file: Path = option(
        Path(), metavar="FILE", positional=True, required=True, help="the pair file to write"
    )


@dataclass(frozen=True, kw_only=True)
class PairCompareOptions:
    """Options of ``compare FILE.py``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    dtype: str = option("float32", help="float64 or float32; float64 always runs first")
    device: str = option("auto", help="a pair is compared on the cpu")
    json: Path | None = option(None, metavar="FILE", help="write every verdict as JSON")
    html: Path | None = option(None, metavar="FILE", help="write it as a page to look at")


@dataclass(frozen=True, kw_only=True)
class PairDiagnoseOptions:
    """Options of ``diagnose FILE.py``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    all: bool = option(False, help="every place, not the first alone")
    json: Path | None = option(None, metavar="FILE", help="write the findings as JSON")


def answers(arguments: Sequence[str]) -> bool:
    """Whether the call is about a pair in a file, and not about the built-in programs."""
    command, *words = arguments or [""]
    return command == "init-pair" or (
        command in ("compare", "diagnose") and _program(words).endswith(".py")
    )


def _program(words: Sequence[str]) -> str:
    """The first of ``words`` that is no option and no option's value."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        if word not in (*_FLAGS, "--") and "=" not in word:
            next(rest, "")
    return ""


def run(arguments: Sequence[str]) -> int:
    """Run a call; 0 if nothing differs, else 1. Raises ``ValueError`` for a wrong call."""
    _refuse_options_of_gpt2(arguments)
    parsed = _parser().parse_args(arguments)
    handle: Callable[[argparse.Namespace], int] = parsed.handle
    return handle(parsed)


def _refuse_options_of_gpt2(arguments: Sequence[str]) -> None:
    for name in _OF_GPT2:
        if any(word.partition("=")[0] == f"--{name}" for word in arguments):
            raise ValueError(f"--{name} is for gpt2: a pair file says itself what it compares")


def _parser() -> Parser:
    parser = Parser(
        prog="twingrad",
        description="Compare a PyTorch model with its JAX port, tensor by tensor.",
        epilog="The built-in programs and their benchmarks come with a checkout of the project.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    begun = commands.add_parser("init-pair", help="write a pair file to fill in")
    add_options(begun, InitPairOptions)
    begun.set_defaults(handle=lambda parsed: init_pair(read_options(InitPairOptions, parsed)))
    compared = commands.add_parser("compare", help="run both models and judge every tensor")
    add_options(compared, PairCompareOptions)
    compared.set_defaults(
        handle=lambda parsed: compare(read_options(PairCompareOptions, parsed), new_console())
    )
    diagnosed = commands.add_parser("diagnose", help="find where the two first differ, and why")
    add_options(diagnosed, PairDiagnoseOptions)
    diagnosed.set_defaults(
        handle=lambda parsed: diagnose(read_options(PairDiagnoseOptions, parsed), new_console())
    )
    return parser


def init_pair(options: InitPairOptions) -> int:
    """Write a pair file to fill in. Raises ``ValueError`` if it exists or cannot be written."""
    write_starter(options.file)
    print(f"{options.file} is a pair that compares; put your models in it, then:")
    print(f"  twingrad compare {options.file}")
    print(f"  twingrad diagnose {options.file}")
    return 0


def compare(options: PairCompareOptions, console: Console) -> int:
    """Compare the pair, print and write the verdicts; 0 if every gate holds, else 1."""
    if options.dtype not in ("float64", "float32"):
        raise ValueError(f"dtype {options.dtype!r}: a pair is compared in float64 and float32")
    if options.device not in ("auto", "cpu"):
        raise ValueError(f"device {options.device!r}: a pair is compared on the cpu")
    require_writable(options.json, options.html)
    started = time.perf_counter()
    with _pair(options.file) as pair, console.status("starting") as status:
        from twingrad import comparison  # it loads both frameworks

        dtypes = comparison.DTYPES[: 1 + comparison.DTYPES.index(options.dtype)]
        outcomes = comparison.compare(pair, dtypes, saying(status))
    ok = all(outcome.ok for outcome in outcomes)
    for outcome in outcomes:
        for gate in outcome.gates:
            rule = outcome_tables.RULES[gate.name]
            outcome_tables.worst_tensors(console, gate, outcome.dtype, rule)
    outcome_tables.outcomes(console, pair.name, outcomes)
    seconds = time.perf_counter() - started
    _write_comparison(options, outcomes, seconds)
    outcome_tables.closing(console, outcomes, seconds)
    return 0 if ok else 1


def _write_comparison(options: PairCompareOptions, outcomes: list[Outcome], seconds: float) -> None:
    facts = _environment()
    if options.json:
        report = {
            "ok": all(outcome.ok for outcome in outcomes),
            "environment": facts,
            "programs": [outcome_object(outcome) for outcome in outcomes],
            "seconds": round(seconds, 1),
        }
        write_json(options.json, report)
    if options.html:
        write_bytes(options.html, comparison_page(outcomes, facts).encode())


def diagnose(options: PairDiagnoseOptions, console: Console) -> int:
    """Diagnose the pair, print and write the findings; 0 if nothing differs, else 1."""
    require_writable(options.json)
    started = time.perf_counter()
    with _pair(options.file) as pair, console.status("starting") as status:
        from twingrad.diagnosis import engine  # it loads both frameworks

        findings = engine.diagnose(pair, saying(status), options.all)
    seconds = time.perf_counter() - started
    if options.json:
        write_json(options.json, as_object(findings, seconds, _environment()))
    show_findings(console, str(options.file), findings, seconds)
    return 1 if findings else 0


def show_findings(console: Console, name: str, findings: Sequence[Finding], seconds: float) -> None:
    """Print ``findings`` about the program or file ``name`` as a table, with their evidence."""
    if not findings:
        console.print(
            f"{escape(name)}: no divergence. Every parameter, every module's own output "
            f"and gradient, and every update agree. ({seconds:.0f} s)"
        )
        return
    rows = table("stage", "where", "cause", title="Where the two first part")
    for finding in findings:
        cause = finding.cause or "no known cause makes the difference vanish"
        rows.add_row(finding.stage, escape(finding.where), escape(cause))
    put(console, rows)
    for finding in findings:
        console.print(f"[dim]{escape(finding.where)}: {escape(finding.evidence)}[/dim]")
    console.print(f"({seconds:.0f} s)")


@contextmanager
def _pair(path: Path) -> Iterator[Pair]:
    """The pair of a file; within, its own folder is what is imported from first."""
    require_frameworks()
    with without_checkout(), importing_beside(path):
        yield load(path)


def _environment() -> Environment:
    packages = ("twingrad", "torch", "jax", "jaxlib", "flax", "optax")
    return environment("cpu", installed_versions(packages))
