"""Bugs planted into the workbench and the library: how many the quick set notices, and the long.

Places are drawn by a seed from all of ``bench``, ``shared`` and ``twingrad``, and changed as mutmut
does. Changes of words in quotes are left out, and so are drawn ones that are equivalent to the
original, each with its reason.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.harness import machine
from bench.harness.records import Record
from tests.helpers.sources import ROOT
from tests.quality import covered, planting, runner
from tests.quality.judgements import JUDGEMENTS
from tests.quality.planting import Mutant
from tests.quality.reach import PACKAGES, Reach
from tests.quality.runner import Fate, Kept, Runner

SEED, COUNT = 19, 20
LEAST_QUICK = 16
# Folders of tests that use all packages, in the order in which their slow tests are run.
_USE_ALL = ("cli", "fuzz", "docs")


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A planted bug, and what the two sets of tests make of it."""

    mutant: Mutant
    quick: Fate
    long: Fate | None  # None where the quick set has noticed it


def sources() -> list[str]:
    """Every module of the packages; a package's ``__init__`` that only imports has no places."""
    return [
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in sorted((ROOT / name).rglob("*.py"))
    ]


def drawn(seed: int = SEED) -> Iterator[Mutant]:
    """Places in random order; words of messages and of names in quotes are no bugs."""
    yield from planting.draw(sources(), COUNT * 4, seed, words=False)


def measure(folder: Path, seed: int = SEED) -> Record:
    """Plant the bugs one by one, run the tests that reach each, and return the record."""
    reached = covered.reached(folder)
    (checkout,) = {one.checkout for one in reached}
    kept, bugs, equivalent = Kept(folder / "bugs.jsonl"), [], []
    with Runner(checkout, folder) as warm:
        for mutant in drawn(seed):
            if reason := JUDGEMENTS.get((mutant.file, mutant.before, mutant.after)):
                equivalent.append(_place(mutant) | {"reason": reason})
                continue
            quick = kept.find(mutant, "quick")
            if quick is None:
                quick = _quick(warm, reached, mutant)
                kept.add(mutant, "quick", quick)
            slow = None if quick.killed else _long(kept, warm, mutant)
            bugs.append(Bug(mutant=mutant, quick=quick, long=slow))
            print(_sentence(bugs[-1]), flush=True)
            if len(bugs) == COUNT:
                break
    return Record(
        machine.environment((), "cpu"),
        {
            "tools": {name: metadata.version(name) for name in ("mutmut", "coverage", "pytest")},
            "seed": seed,
            "quick": sum(bug.quick.killed for bug in bugs),
            "long": sum(bug.quick.killed or bool(bug.long and bug.long.killed) for bug in bugs),
            "bugs": [
                _place(bug.mutant)
                | {"quick": bug.quick.how, "long": bug.long.how if bug.long else None}
                for bug in bugs
            ],
            "equivalent": equivalent,
        },
    )


def _place(mutant: Mutant) -> dict:
    return {
        "file": mutant.file,
        "line": mutant.line,
        "before": mutant.before,
        "after": mutant.after,
    }


def _sentence(bug: Bug) -> str:
    place = f"{bug.mutant.file}:{bug.mutant.line}"
    if bug.quick.killed:
        return f"{place}: the quick set notices it, {bug.quick.how}"
    words = "the long set notices it" if bug.long and bug.long.killed else "NOT NOTICED"
    lines = f"\n  - {bug.mutant.before}\n  + {bug.mutant.after}"
    return f"{place}: {words}, {bug.long.how if bug.long else ''}; {bug.quick.how}{lines}"


def _quick(warm: Runner, reached: Sequence[Reach], mutant: Mutant) -> Fate:
    """The mutant by all tests of the quick set that reach it, those of its own package first."""
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    durations = {name: seconds for one in reached for name, seconds in one.durations.items()}
    if runner.statement(source, mutant.line)[2]:  # what uses the file may use what is imported
        found = {name for one in reached for name in one.tests_of_file(mutant.file)}
    else:
        found = {name for one in reached for name in runner.reaching(one, mutant, source)}
    tests = sorted(found, key=lambda name: (not _is_near(name, mutant.file), durations[name]))
    return warm.judge(mutant, tests, durations)


def _is_near(test: str, file: str) -> bool:
    """Whether a test's file has the name of a module, or of its folder."""
    stem = test.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return stem in file or Path(file).stem in stem


def _long(kept: Kept, warm: Runner, mutant: Mutant) -> Fate:
    """The mutant by the long set of the folders that test its package."""
    known = kept.find(mutant, "long")
    if known is not None:
        return known
    folders = sorted(
        (name for name in covered.folders() if _tests(name, mutant.file)),
        key=lambda name: _USE_ALL.index(short) if (short := _short(name)) in _USE_ALL else -1,
    )
    fails_anyway: list[str] = []
    while True:
        with warm.planted(mutant):
            failed = _first_failure(warm.checkout, folders, fails_anyway)
        if not failed or not _first_failure(warm.checkout, [failed]):
            break
        fails_anyway.append(failed)
    how = "all tests pass" if failed is None else failed or "not imported"
    fate = Fate(killed=failed is not None, how=how, tests=len(folders))
    kept.add(mutant, "long", fate)
    return fate


def _first_failure(checkout: Path, tests: Sequence[str], without: Sequence[str] = ()) -> str | None:
    """The first slow test that fails; "" where they cannot be collected, None where all pass."""
    words = ["-m", "pytest", "-q", "-x", "-m", "slow", "-n1", "-p", "no:cacheprovider", "--tb=line"]
    left = [f"--deselect={name}" for name in without]
    call = [sys.executable, "-B", *words, *left, *tests]
    done = subprocess.run(call, cwd=checkout, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if failed:
        return failed[0].partition(" ")[2].partition(" - ")[0]
    return None if done.returncode in (0, 5) else ""


def _tests(folder: str, file: str) -> bool:
    """Whether a folder of tests is that of a file's package, or of one that uses all packages."""
    return _short(folder) in (*file.split("/"), *_USE_ALL)


def _short(folder: str) -> str:
    return folder.removeprefix("tests/")
