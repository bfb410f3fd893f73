"""The commands for pairs of models in files: ``init-pair``, ``compare`` and ``diagnose``."""

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from twingrad import compile_cache, devices, finding_tables, map_code, outcome_tables
from twingrad.basis import require_precision
from twingrad.cli.imports import without_checkout
from twingrad.cli.pair_options import (
    InitPairOptions,
    PairCompareOptions,
    PairDiagnoseOptions,
    RecordOptions,
)
from twingrad.diagnosis.finding import Note, as_object
from twingrad.environment import (
    Environment,
    environment,
    installed_versions,
    require_frameworks,
)
from twingrad.files import require_writable, write_bytes, write_json
from twingrad.outcome import Outcome, diagnose_hint, outcome_object
from twingrad.page import comparison_page
from twingrad.pair import Pair, importing_beside, load, write_starter
from twingrad.printable import printable
from twingrad.terminal import progress

if TYPE_CHECKING:
    from twingrad.foreign import Array
    from twingrad.sides import Framework


def init_pair(options: InitPairOptions) -> int:
    """Write a pair file to fill in. Raises ``ValueError`` if it exists or cannot be written."""
    if options.side != "both":
        side = _side(options.side)
        write_starter(options.file, side)
        file = printable(str(options.file))
        print(f"{file} is one side of a pair; put your model in it, then:")
        print(f"  twingrad record {file} --side {side} --out REC")
        return 0
    write_starter(options.file)
    file = printable(str(options.file))
    print(f"{file} is a pair that compares; put your models in it, then:")
    print(f"  twingrad compare {file}")
    print(f"  twingrad diagnose {file}")
    return 0


def record(options: RecordOptions, console: Console) -> int:
    """Run one side and write the record; 0. Raises ``ValueError`` if it cannot be recorded."""
    from twingrad.record import files
    from twingrad.sides import TITLES

    side = _side(options.side)
    _require_pattern(options.only)
    if not options.limit > 0:
        raise ValueError(f"limit {options.limit:g}: give a number of GiB above 0")
    files.require_new(options.out)
    files.require_safetensors()
    require_frameworks(side)
    compile_cache.enable()
    with _loaded(options.file) as pair, progress(console) as say:
        from twingrad.record import recorder

        like = None if options.like is None else _numbers(pair, side, options.like)
        content = recorder.record(pair, side, say, options.only, options.limit, like)
        say(f"{pair.name}: writing {options.out}")
        size = files.write(options.out, content, options.limit)
    first = next(iter(content.runs.values())).first
    console.print(
        f"{options.out}: {TITLES[side]}'s side of {pair.name}, {len(first.calls)} calls of modules "
        f"in {', '.join(content.runs)}, {_bytes(size)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _numbers(pair: Pair, side: "Framework", folder: Path) -> "dict[str, Array]":
    """The numbers of a record of the other side, as ``side`` has them."""
    from twingrad.record import against
    from twingrad.sides import TITLES

    record = against.recorded(folder)
    if record.framework == side:
        raise ValueError(f"{folder} is a record of {TITLES[side]}: --like takes the other side's")
    return against.numbers(pair, record, folder)


def _side(side: str) -> "Framework":
    return "torch" if side == "torch" else "jax"


def _require_pattern(only: str | None) -> None:
    try:
        re.compile(only or "")
    except re.error as error:
        raise ValueError(f"only {only!r} is no regular expression: {error}") from None


def compare(options: PairCompareOptions, console: Console) -> int:
    """Compare the pair, print and write the verdicts; 0 if every gate holds, else 1."""
    if options.dtype not in ("float64", "float32"):
        raise ValueError(f"dtype {options.dtype!r}: a pair is compared in float64 and float32")
    require_writable(options.json, options.html)
    compile_cache.enable()
    started = time.perf_counter()
    with (
        _pair(options.file, options.against, options.precision, options.device) as pair,
        progress(console) as say,
    ):
        from twingrad import comparison, judged

        dtypes = comparison.DTYPES[: 1 + comparison.DTYPES.index(options.dtype)]
        outcomes, notes = judged.compare(pair, dtypes, say)
    seconds = time.perf_counter() - started
    hint = diagnose_hint(shlex.quote(str(options.file)))
    if options.device == "cuda":
        hint += " --device cuda"
    if options.precision is not None:
        hint += f" --precision {options.precision}"
    if options.against is not None:
        hint += f" --against {shlex.quote(str(options.against))}"
    outcome_tables.comparison(console, pair.name, outcomes, seconds, hint)
    finding_tables.notes(console, notes)
    _write_comparison(options, outcomes, notes, seconds, hint)
    equal = all(outcome.ok for outcome in outcomes)
    return 0 if equal and not (options.strict and notes) else 1


def _write_comparison(
    options: PairCompareOptions,
    outcomes: list[Outcome],
    notes: list[Note],
    seconds: float,
    hint: str,
) -> None:
    facts = _environment(options.device)
    ok = all(outcome.ok for outcome in outcomes)
    if options.json:
        report = {
            "ok": ok,
            "hint": None if ok else hint,
            "environment": facts,
            "programs": [outcome_object(outcome) for outcome in outcomes],
            "notes": [{"where": note.where, "note": note.note} for note in notes],
            "seconds": round(seconds, 1),
        }
        write_json(options.json, report)
    if options.html:
        write_bytes(options.html, comparison_page(outcomes, facts, hint).encode(errors="replace"))


def diagnose(options: PairDiagnoseOptions, console: Console) -> int:
    """Diagnose the pair, print and write the findings; 0 if nothing differs, else 1."""
    if options.map:
        return _show_map(options, console)
    require_writable(options.json)
    compile_cache.enable()
    started = time.perf_counter()
    with (
        _pair(options.file, options.against, options.precision, options.device) as pair,
        progress(console) as say,
    ):
        from twingrad import judged

        findings = judged.diagnose(pair, say, options.all, options.until, options.only)
    seconds = time.perf_counter() - started
    findings.show(console, str(options.file))
    console.print(f"({seconds:.0f} s)")
    if options.json:
        report = as_object(findings, seconds, _environment(options.device), findings.notes)
        if findings.part is not None:
            report["part"] = findings.part
        if findings.basis is not None:
            report["basis"] = findings.basis.as_object()
        write_json(options.json, report)
    return 1 if findings or (options.strict and findings.notes) else 0


def _show_map(options: PairDiagnoseOptions, console: Console) -> int:
    """Print the map of the pair's parameters; 1 if something is left open, else 0."""
    for name, value in (("json", options.json), ("until", options.until), ("only", options.only)):
        if value:
            raise ValueError(f"--map prints the map and diagnoses nothing: leave out --{name}")
    with _pair(options.file, options.against) as pair:
        from twingrad import live
        from twingrad.arithmetic import arithmetic

        with arithmetic("float64"):
            made, missing, spare = live.LivePair.mapped(pair)
    map_code.show(console, made.partners, missing, spare)
    return 1 if missing or spare else 0


@contextmanager
def _pair(
    path: Path, folder: Path | None, precision: str | None = None, device: str = "cpu"
) -> Iterator[Pair]:
    """The pair of a file, one side of it the record in ``folder`` if there is one.

    It is judged in ``precision``, if one is given. Within, it runs on ``device``.
    """
    device = "cpu" if device == "auto" else device
    if precision is not None:
        require_precision(precision)
    if folder is None:
        require_frameworks()
        with devices.using(device), _loaded(path) as pair:
            yield pair if precision is None else replace(pair, precision=precision)
        return
    from twingrad.record import against

    record = against.recorded(folder)
    side = against.other_side(record.framework)
    require_frameworks(side)
    with devices.using(device, side), _loaded(path) as pair:
        given = pair if precision is None else replace(pair, precision=precision)
        yield against.against(given, record, folder)


@contextmanager
def _loaded(path: Path) -> Iterator[Pair]:
    """The pair of a file; within, its own folder is what is imported from first."""
    with without_checkout(), importing_beside(path):
        yield load(path)


def _environment(device: str = "cpu") -> Environment:
    packages = ("twingrad", "torch", "jax", "jaxlib", "flax", "optax")
    return environment("cpu" if device == "auto" else device, installed_versions(packages))
