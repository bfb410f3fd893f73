"""What the tests take: how many they are, their time by the clock and by processor, the slowest."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.harness import machine
from bench.harness.records import Json, Record
from tests.quality import checkout
from tests.quality.reach import TestsFailed

SHARES, SLOWEST = 10, 20
QUICK = "quick"
_COUNT = re.compile(r"(\d+) (passed|skipped)")
_LEFT = re.compile(r"^([\d,]+) slow tests were left", re.MULTILINE)
_Part = dict[str, Json]


def parts() -> list[str]:
    """The quick set, and the shares in which the long one is run."""
    return [QUICK, *(f"{number}/{SHARES}" for number in range(1, SHARES + 1))]


def measure(folder: Path, names: Sequence[str] = ()) -> Record:
    """Run the quick set, or the parts named, and return the record with all that is in ``folder``.

    Nothing is compiled before but what the packages bring. Run it on a machine that does nothing
    else: the processor times are those of any machine, the others are not.
    """
    unknown = sorted(set(names) - set(parts()))
    if unknown:
        raise ValueError(
            f"part {unknown[0]!r}: expected {QUICK}, or 1/{SHARES} to {SHARES}/{SHARES}"
        )
    for name in names or [QUICK]:
        _part(folder, name)
    found = {name: _read(_path(folder, name)) for name in parts() if _path(folder, name).exists()}
    shares = [part for name, part in found.items() if name != QUICK]
    sets = {"quick": found.get(QUICK)}
    if len(shares) == SHARES:
        sets["long"] = _sum(shares)
    return Record(
        machine.environment((), "cpu"),
        {
            "tools": {name: metadata.version(name) for name in ("pytest", "pytest-xdist")},
            "cores": os.cpu_count(),
            "sets": {name: part for name, part in sets.items() if part},
        },
    )


def _part(folder: Path, name: str) -> None:
    """Run one part in a copy of the checkout, if it has not been run."""
    path = _path(folder, name)
    if path.exists():
        return
    copied = checkout.copy(folder / "checkout")
    costs = path.with_suffix(".costs")
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--processor-times", str(costs)]
    if name != QUICK:
        words += ["-m", "slow", "--share", name]
    environment = {k: v for k, v in os.environ.items() if k != "TWINGRAD_TEST_CACHES"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=copied, env=environment | {"PYTHONPATH": str(copied)}, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    (folder / "log").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 5):  # 5: nothing is in this share
        raise TestsFailed(f"{name}: status {done.returncode}, see {folder / 'log'}")
    ours = json.loads(costs.read_text()) if costs.exists() else {}
    path.write_text(json.dumps({"seconds": seconds, "costs": ours} | counts(done.stdout)))


def counts(printed: str) -> dict[str, int]:
    """How many tests passed, were skipped and were left, by pytest's last lines."""
    last = [line for line in printed.splitlines() if re.search(r" in \d+\.\d+s", line)]
    found = {what: int(number) for number, what in _COUNT.findall(last[-1])} if last else {}
    return {
        "passed": found.get("passed", 0),
        "skipped": found.get("skipped", 0),
        "left": int(left[1].replace(",", "")) if (left := _LEFT.search(printed)) else 0,
    }


def _path(folder: Path, name: str) -> Path:
    return folder / f"times-{name.replace('/', '-of-')}.json"


def _read(path: Path) -> _Part:
    part = json.loads(path.read_text())
    costs = part.pop("costs")
    return part | {
        "processor_s": sum(costs.values()),
        "slowest": [
            {"test": test, "processor_s": seconds}
            for test, seconds in sorted(costs.items(), key=lambda pair: -pair[1])[:SLOWEST]
        ],
    }


def _sum(shares: Sequence[_Part]) -> _Part:
    slowest = sorted(
        (row for part in shares for row in part["slowest"]), key=lambda row: -row["processor_s"]
    )
    sums = ("seconds", "passed", "skipped", "processor_s")
    return {name: sum(part[name] for part in shares) for name in sums} | {
        "left": 0,
        "slowest": slowest[:SLOWEST],
    }
