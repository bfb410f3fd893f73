"""Bugs planted into the workbench and the library: how many the quick set notices, and the long.

Places are drawn by a seed from all of ``bench``, ``shared`` and ``twingrad``, and changed as mutmut
does. Changes of words in quotes are left out, and so are drawn ones that are equivalent to the
original, each with its reason.
"""

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
# Folders of tests that use all packages, the longest last.
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
    by_quick, by_long = Kept(folder / "bugs.jsonl"), Kept(folder / "bugs-long.jsonl")
    bugs, equivalent = [], []
    with Runner(checkout, folder) as warm:
        for mutant in drawn(seed):
            if reason := JUDGEMENTS.get((mutant.file, mutant.before, mutant.after)):
                equivalent.append(_place(mutant) | {"reason": reason})
                continue
            quick = by_quick.find(mutant, "quick")
            if quick is None:
                quick = _fate(warm, reached, mutant)
                by_quick.add(mutant, "quick", quick)
            slow = None if quick.killed else by_long.find(mutant, "long")
            if slow is None and not quick.killed:
                slow = _long(folder, warm, mutant)
                by_long.add(mutant, "long", slow)
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


def _fate(warm: Runner, reached: Sequence[Reach], mutant: Mutant) -> Fate:
    """The mutant by all tests that reach it, those of its own package first.

    A test that fails without the mutant too, run by itself, notices nothing.
    """
    durations = {name: seconds for one in reached for name, seconds in one.durations.items()}
    found = {name for one in reached for name in _reaching(one, mutant)}
    order = {name: (not _is_near(name, mutant.file), durations[name], name) for name in found}
    tests = sorted(found, key=order.__getitem__)
    while True:
        fate = warm.judge(mutant, tests, durations)
        if not fate.killed or fate.how not in tests or warm.passes(fate.how, durations):
            return fate
        tests.remove(fate.how)


def _reaching(reached: Reach, mutant: Mutant) -> Iterator[str]:
    """The tests that run the statement of a mutant, or may use what it made at import."""
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    first, last, at_import = runner.statement(source, mutant.line)
    if at_import:
        yield from reached.tests_of_file(mutant.file)
    else:
        yield from runner.reaching(reached, mutant, source)
    lines = range(first, last + 1)
    if at_import or reached.is_reached_outside_tests(mutant.file, lines):
        own = _own_folders(mutant)[-1:]
        files = {name: name.partition("::")[0] for name in reached.durations}
        yield from (name for name, file in files.items() if file.rpartition("/")[0] in own)


def _long(folder: Path, warm: Runner, mutant: Mutant) -> Fate:
    """The mutant by the slow tests that reach it, folder by folder until one notices it."""
    tests = 0
    for name in _folders(mutant):
        fate = _fate(warm, covered.reached_by_slow(folder, [name]), mutant)
        if fate.killed:
            return fate
        tests += fate.tests
    return Fate(killed=False, how="all tests pass" if tests else "no test reaches it", tests=tests)


def _is_near(test: str, file: str) -> bool:
    """Whether a test's file has the name of a module, or of its folder."""
    stem = test.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return stem in file or Path(file).stem in stem


def _folders(mutant: Mutant) -> list[str]:
    """The folders of tests of a mutant's package, and then those that use all packages."""
    own = [name for name in _own_folders(mutant) if name.removeprefix("tests/") not in _USE_ALL]
    return [*own, *(f"tests/{name}" for name in _USE_ALL)]


def _own_folders(mutant: Mutant) -> list[str]:
    """The folders of tests that have the name of a package around a mutant, the innermost last."""
    known = set(covered.folders())
    return [name for part in mutant.file.split("/") if (name := f"tests/{part}") in known]
