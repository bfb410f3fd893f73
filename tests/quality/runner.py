"""Mutants run one after another in a copy of the checkout, by the tests that reach the change."""

import ast
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.quality import planting
from tests.quality.planting import Mutant
from tests.quality.reach import Reach, TestsFailed

# Imported before any test: none of this project, and none that is a plugin of pytest too.
FRAMEWORKS = ("numpy", "jsonschema", "jax", "flax.nnx", "optax", "torch")
_LEAST_SECONDS, _TIMES = 30.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of a mutant: the tests that were run, and how it was noticed, if it was."""

    killed: bool
    how: str
    tests: int


class Runner:
    """A warm process for one copy of the checkout."""

    def __init__(self, checkout: Path, folder: Path, modules: Sequence[str] = FRAMEWORKS) -> None:
        self.checkout, self.folder, self.modules = checkout, folder, modules

    def __enter__(self) -> "Runner":
        temporary = self.folder / "temporary"
        temporary.mkdir(parents=True, exist_ok=True)
        call = [sys.executable, str(Path(__file__).with_name("warm.py")), str(self.checkout)]
        environment = os.environ | {
            "TMPDIR": str(temporary),
            "OMP_WAIT_POLICY": "PASSIVE",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(
            [*call, *self.modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def test(
        self, tests: Sequence[str], seconds: float, options: Sequence[str] = (), write: bool = False
    ) -> dict:
        """Run tests in a fork of the warm process: pytest's status, and the first that failed."""
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        request = {
            "files": files,
            "tests": list(tests),
            "seconds": seconds,
            "options": list(options),
            "log": str(self.folder / "log"),
            "unwritten": not write,
        }
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] in (5, 99):  # nothing was run, or the runner itself failed
            raise TestsFailed(f"{tests[0]}: see {self.folder / 'log'}")
        return answer

    def judge(self, mutant: Mutant, tests: Sequence[str], durations: dict[str, float]) -> Fate:
        """Whether one of the tests fails for the mutant."""
        if not tests:
            return Fate(killed=False, how="no test reaches it", tests=0)
        with self.planted(mutant):
            answer = self.test(tests, _most_seconds(tests, durations))
        status, failed = answer["status"], answer["test"]
        if status == 0:
            return Fate(killed=False, how="all tests pass", tests=len(tests))
        how = {"timeout": "too slow", "signal": "crashed"}.get(status, failed or "not imported")
        return Fate(killed=True, how=how, tests=len(tests))

    def passes(self, test: str, durations: dict[str, float]) -> bool:
        """Whether a test passes by itself, in the copy as it is."""
        return self.test([test], _most_seconds([test], durations))["status"] == 0

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """Have the mutant in the copy for as long as the block runs."""
        path = planting.path_of(mutant, self.checkout)
        own, status = path.read_bytes(), path.stat()
        path.write_text(mutant.source, encoding="utf-8")
        # Another time than any other of this file, or what was compiled before would be imported.
        changed = status.st_mtime_ns + (mutant.number + 1) * 1_000_000_000
        os.utime(path, ns=(changed, changed))
        try:
            yield
        finally:
            path.write_bytes(own)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _most_seconds(tests: Sequence[str], durations: dict[str, float]) -> float:
    return _LEAST_SECONDS + _TIMES * sum(durations.get(name, 1.0) for name in tests)


def reaching(reach: Reach, mutant: Mutant, source: str) -> list[str]:
    """The tests that run the statement in which the change is; all tests if it runs at import."""
    first, last, at_import = statement(source, mutant.line)
    if at_import:
        return sorted(reach.durations, key=reach.durations.__getitem__)
    found: dict[str, None] = {}
    for line in range(first, last + 1):
        found |= dict.fromkeys(reach.tests_of(mutant.file, line))
    return sorted(found, key=reach.durations.__getitem__)


def statement(source: str, line: int) -> tuple[int, int, bool]:
    """First and last line of the innermost statement at ``line``, and whether it runs at import.

    Of a statement with a body it is what stands before the body.
    """
    found, at_import = (line, line), True
    within: list[ast.AST] = [ast.parse(source)]
    while within:
        node = within.pop()
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.stmt, ast.ExceptHandler)):
                continue
            if not child.lineno <= line <= child.end_lineno:
                continue
            body = getattr(child, "body", None)
            last = body[0].lineno - 1 if body else child.end_lineno
            found = (child.lineno, max(last, child.lineno))
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and line > last:
                at_import = False
            within = [child]
            break
    return *found, at_import


class Kept:
    """Fates that earlier calls have found, a line of JSON each.

    One that was killed stays so as tests are added. One that survived is run again by other tests.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {row["key"]: row for row in map(json.loads, lines)}

    def find(self, mutant: Mutant, tests: str) -> Fate | None:
        """What became of the mutant, if that is known; ``tests`` is a digest of its tests."""
        row = self._known.get(_key(mutant))
        if row is None or not (row["killed"] or row["by"] == tests):
            return None
        return Fate(killed=row["killed"], how=row["how"], tests=row["tests"])

    def add(self, mutant: Mutant, tests: str, fate: Fate) -> None:
        """Keep what became of the mutant."""
        row = {"key": _key(mutant), "name": mutant.name, "by": tests, **vars(fate)}
        self._known[row["key"]] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _key(mutant: Mutant) -> str:
    return hashlib.sha256(f"{mutant.file}\n{mutant.source}".encode()).hexdigest()[:16]
