"""Which tests reach which lines, measured by coverage.py, folder of tests by folder."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bench", "shared", "twingrad")
_SETTINGS = """[run]
branch = True
parallel = True
patch = _exit
data_file = {data}
source =
    {sources}
context = ${{TWINGRAD_TEST-}}
disable_warnings =
    no-data-collected
    module-not-imported
    module-not-measured
    couldnt-parse
    no-ctracer
"""


# Every process that is started imports this by itself.
_AT_START = "from tests.quality import graceful\n\ngraceful.install()\n"


class TestsFailed(Exception):
    """The tests of the code as it is do not pass."""

    __test__ = False


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What the tests of one call of pytest reached, and how long each took."""

    checkout: Path
    data: Path
    durations: dict[str, float]

    def tests_of(self, file: str, line: int) -> list[str]:
        """The tests that run this line, the quickest first."""
        return self._tests(_contexts(self.data, self.checkout / file).get(line, ()))

    def tests_of_file(self, file: str) -> list[str]:
        """The tests that run any line of a file, after it was imported."""
        lines = _contexts(self.data, self.checkout / file).values()
        return self._tests(name for names in lines for name in names)

    def is_reached_outside_tests(self, file: str, lines: Iterable[int]) -> bool:
        """Whether one of the lines runs while modules are imported, before any test."""
        known = _contexts(self.data, self.checkout / file)
        return any("" in known.get(line, ()) for line in lines)

    def _tests(self, contexts: Iterable[str]) -> list[str]:
        # A process that a test starts has the test as its own context: "test|".
        tests = {part for name in contexts for part in name.split("|") if part}
        return sorted(tests & self.durations.keys(), key=self.durations.__getitem__)


@functools.cache
def _contexts(data: Path, file: Path) -> dict[int, list[str]]:
    """The contexts in which each line of a file ran."""
    import coverage

    stored = coverage.CoverageData(str(data))
    stored.read()
    return stored.contexts_by_lineno(str(file))


def measure(
    checkout: Path, tests: Sequence[str], folder: Path, arguments: Sequence[str] = ()
) -> Reach:
    """Run tests in a copy of the checkout under coverage, processes of theirs included.

    What it finds is kept in ``folder``, and not measured again if it is there.
    """
    data, durations = folder / "coverage", folder / "durations.json"
    if not durations.exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "durations").mkdir(parents=True)
        settings = folder / "coveragerc"
        sources = "\n    ".join(str(checkout / name) for name in PACKAGES)
        settings.write_text(_SETTINGS.format(data=data, sources=sources))
        own = folder / "site"
        own.mkdir()
        (own / "sitecustomize.py").write_text(_AT_START)
        environment = os.environ | {
            "COVERAGE_PROCESS_START": str(settings),
            "PYTHONPATH": os.pathsep.join([str(own), str(checkout)]),
            "TWINGRAD_DURATIONS": str(folder / "durations"),
        }
        words = ["-m", "pytest", "-q", "-p", "tests.quality.contexts", "-p", "no:cacheprovider"]
        call = [sys.executable, *words, *arguments, *tests]
        status = subprocess.run(call, cwd=checkout, env=environment).returncode
        if status not in (0, 5):  # 5: there is none of them
            raise TestsFailed(f"{' '.join(tests)}: status {status} without a change")
        _wait_for_the_last(settings)
        _combine(data, settings)
        took = [json.loads(path.read_text()) for path in (folder / "durations").iterdir()]
        durations.write_text(json.dumps({k: v for part in took for k, v in part.items()}))
    return Reach(checkout=checkout, data=data, durations=json.loads(durations.read_text()))


def _wait_for_the_last(settings: Path, most_s: float = 30.0) -> None:
    """Wait until no process is left that measures by ``settings``: some end after the tests."""
    end, mark = time.monotonic() + most_s, f"COVERAGE_PROCESS_START={settings}".encode()
    while time.monotonic() < end and any(mark in variables for variables in _environments()):
        time.sleep(0.1)


def _environments() -> Iterator[list[bytes]]:
    """The environment variables of every process that may be read."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            yield path.read_bytes().split(b"\0")


def _combine(data: Path, settings: Path) -> None:
    import coverage

    whole = coverage.Coverage(data_file=str(data), config_file=str(settings))
    whole.combine([str(data.parent)])
    whole.save()


def arcs(reaches: Sequence[Reach]) -> Iterator[tuple[str, set[tuple[int, int]]]]:
    """Every file that was reached, and all steps from line to line in it, whatever the test."""
    import coverage

    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for reach in reaches:
        data = coverage.CoverageData(str(reach.data))
        data.read()
        for file in data.measured_files():
            found[file] |= set(data.arcs(file) or ())
    yield from found.items()
