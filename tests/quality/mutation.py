"""Mutation testing of the code that checks: which small changes of it its own tests notice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.harness import machine
from bench.harness.records import Record
from tests.helpers.sources import ROOT
from tests.quality import checkout, planting, reach, runner
from tests.quality.judgements import JUDGEMENTS
from tests.quality.planting import Mutant
from tests.quality.runner import FRAMEWORKS, Fate, Kept, Runner

SEED, EACH = 2026, 80  # mutants of each of the five parts


@dataclass(frozen=True, kw_only=True)
class Part:
    """Modules that check one kind of thing, and the files of the quick set that test them."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.py" for name in names)


PARTS = {
    "distances and bounds": Part(
        files=_in("twingrad", "numerics"),
        tests=_in("tests/twingrad", "test_numerics", "test_verdicts"),
    ),
    "comparison of a pair": Part(
        files=_in("twingrad", "comparison"),
        tests=_in("tests/twingrad", "test_comparison", "test_pairs", "test_many_modules")
        + _in("tests/twingrad", "test_not_finite", "test_api", "test_coarse"),
    ),
    "check of a record of speed": Part(
        files=_in("bench/speed", "record", "derivation", "statistics", "json_form", "schema"),
        tests=_in("tests/speed", "test_check", "test_record", "test_schema")
        + _in("tests/speed", "test_derivation", "test_statistics", "test_json_form"),
    ),
    "loaders of parameters and of data": Part(
        files=_in("shared", "params", "safetensors_io", "transformers_io", "files", "loader"),
        tests=_in("tests/shared", "test_params", "test_weights", "test_files", "test_loader"),
    ),
    "checkpoints": Part(
        files=_in("shared/checkpoint", "folders", "format", "reading", "writing"),
        tests=tuple(
            sorted(
                path.relative_to(ROOT).as_posix()
                for path in (ROOT / "tests/shared").glob("test_checkpoint_*.py")
            )
        ),
    ),
}


def measure(folder: Path, names: Sequence[str] = (), seed: int = SEED) -> Record:
    """Draw the mutants, run each by its tests, and return the record.

    ``names`` are parts, or all of them. What is found is kept in ``folder``.
    """
    if unknown := [name for name in names if name not in PARTS]:
        raise ValueError(f"part {unknown[0]!r}: expected one of {', '.join(PARTS)}")
    parts = {name: PARTS[name] for name in names or PARTS}
    rows = {name: _part(name, part, folder, seed) for name, part in parts.items()}
    return Record(
        machine.environment((), "cpu"),
        {
            "tools": {name: metadata.version(name) for name in ("mutmut", "coverage", "pytest")},
            "seed": seed,
            "parts": [
                {
                    "name": name,
                    "files": list(part.files),
                    "tests": list(part.tests),
                    "of": planting.count(part.files),
                    "mutants": len(rows[name]),
                    "killed": sum(fate.killed for fate in rows[name].values()),
                    "how": _hows(rows[name].values()),
                    "survivors": [
                        _survivor(mutant, fate)
                        for mutant, fate in rows[name].items()
                        if not fate.killed
                    ],
                }
                for name, part in parts.items()
            ],
        },
    )


def _hows(fates) -> dict[str, int]:
    """How many were noticed by a test, and how many otherwise."""
    counts = {"a test failed": 0, "not imported": 0, "too slow": 0, "crashed": 0}
    for fate in fates:
        if fate.killed:
            counts[fate.how if fate.how in counts else "a test failed"] += 1
    return counts


def _survivor(mutant: Mutant, fate: Fate) -> dict:
    judgement = JUDGEMENTS.get((mutant.file, mutant.before, mutant.after))
    return {
        "file": mutant.file,
        "line": mutant.line,
        "before": mutant.before,
        "after": mutant.after,
        "how": fate.how,
        "judgement": judgement,
    }


def _part(name: str, part: Part, folder: Path, seed: int) -> Mapping[Mutant, Fate]:
    own = folder / name.replace(" ", "-")
    copied = checkout.copy(own / "checkout")
    tests = checkout.digest(*(copied / path for path in part.tests))
    sources = checkout.digest(*(copied / path for path in (*part.tests, *part.files)))
    reached = reach.measure(copied, part.tests, own / f"reach-{sources}", ["-n0"])
    kept = Kept(own / "fates.jsonl")
    fates: dict[Mutant, Fate] = {}
    mutants = planting.draw(part.files, EACH, seed)
    known = {mutant: kept.find(mutant, tests) for mutant in mutants}
    with Runner(copied, own, FRAMEWORKS) as warm:
        passed = own / f"passed-{sources}"
        if not all(known.values()) and not passed.exists():
            answer = warm.test(sorted(reached.durations), 900, write=True)
            if answer["status"] != 0:
                raise reach.TestsFailed(f"{answer['test']} fails without a change, in a fork")
            passed.touch()
        for number, mutant in enumerate(mutants):
            fate = known[mutant]
            if fate is None:
                source = (ROOT / mutant.file).read_text(encoding="utf-8")
                fate = warm.judge(
                    mutant, runner.reaching(reached, mutant, source), reached.durations
                )
                kept.add(mutant, tests, fate)
                _say(name, number, len(mutants), mutant, fate)
            fates[mutant] = fate
    return fates


def _say(part: str, number: int, count: int, mutant: Mutant, fate: Fate) -> None:
    what = "killed" if fate.killed else "SURVIVED"
    print(f"{part} {number + 1}/{count} {what} {mutant.file}:{mutant.line} {fate.how}", flush=True)
    if not fate.killed:
        print(f"  - {mutant.before}\n  + {mutant.after}", flush=True)
