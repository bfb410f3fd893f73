"""Coverage of the packages by the tests: lines and branches, and why the rest is left."""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from bench.harness import machine
from bench.harness.records import Record
from tests.helpers.sources import ROOT
from tests.quality import checkout, kinds, reach
from tests.quality.judgements import UNREACHED
from tests.quality.reach import PACKAGES, Reach


def folders() -> list[str]:
    """The folders of tests, which are run one by one."""
    found = {
        path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")
    }
    return sorted(found)


def reached(folder: Path, names: Sequence[str] = ()) -> list[Reach]:
    """What the quick set reaches, measured in a copy of the checkout, folder of tests by folder."""
    copied = checkout.copy(folder / "checkout")
    found = []
    for name in names or folders():
        print(name, flush=True)
        own = folder / "reach" / name.replace("/", "-")
        found.append(reach.measure(copied, [name], own, ["-n2"]))
    return found


def reached_by_slow(folder: Path, names: Sequence[str]) -> list[Reach]:
    """What the slow tests of folders reach; nothing for a folder without any."""
    copied = checkout.copy(folder / "checkout")
    found = []
    for name in names:
        print(f"{name}, slow tests", flush=True)
        own = folder / "reach-slow" / name.replace("/", "-")
        found.append(reach.measure(copied, [name], own, ["-n2", "-m", "slow"]))
    return found


def measure(folder: Path, names: Sequence[str] = (), slow: Sequence[str] = ()) -> Record:
    """Run the quick set under coverage, and return the record; what is there is not run again.

    ``slow`` are folders of which the slow tests are run as well.
    """
    if unknown := sorted({*names, *slow} - set(folders())):
        raise ValueError(f"folder {unknown[0]!r}: expected one of {', '.join(folders())}")
    quick, long = reached(folder, names), reached_by_slow(folder, slow)
    report, root = _report([*quick, *long], folder), quick[0].checkout
    packages = {
        name: _summary([row for file, row in report.items() if file.startswith(f"{name}/")])
        for name in PACKAGES
    }
    return Record(
        machine.environment((), "cpu"),
        {
            "tools": {name: metadata.version(name) for name in ("coverage", "pytest")},
            "tests": sum(len(one.durations) for one in quick),
            "slow_tests": sum(len(one.durations) for one in long),
            "folders": list(names or folders()),
            "slow_folders": list(slow),
            "packages": packages | {"all": _summary(report.values())},
            "files": [
                {
                    "file": file,
                    "lines": _ranges(row["missing_lines"]),
                    "kinds": kinds.counts((root / file).read_text(), row["missing_lines"]),
                    "branches": len(row["missing_branches"]),
                    "reason": UNREACHED.get(file),
                }
                for file, row in sorted(report.items())
                if row["missing_lines"] or row["missing_branches"]
            ],
        },
    )


def _report(found: Sequence[Reach], folder: Path) -> dict[str, dict]:
    """coverage.py's report on every file, by its path in the checkout."""
    import coverage

    (root,) = {one.checkout for one in found}
    path = folder / "total"
    path.unlink(missing_ok=True)
    data = coverage.CoverageData(str(path))
    data.add_arcs(dict(reach.arcs(found)))
    for name in PACKAGES:
        for source in (root / name).rglob("*.py"):
            data.touch_file(str(source))
    data.write()
    whole = coverage.Coverage(data_file=str(path), config_file=False, branch=True)
    whole.load()
    written = folder / "total.json"
    whole.json_report(outfile=str(written))
    content = json.loads(written.read_text())["files"]
    return {Path(file).resolve().relative_to(root).as_posix(): row for file, row in content.items()}


def _summary(rows) -> Mapping[str, float]:
    """Lines and branches of several files, and how many of them were reached."""
    keys = {
        "lines": "num_statements",
        "lines_reached": "covered_lines",
        "branches": "num_branches",
        "branches_reached": "covered_branches",
    }
    return {name: sum(row["summary"][key] for row in rows) for name, key in keys.items()}


def _ranges(lines: Sequence[int]) -> str:
    """Numbers of lines in short: ``3-5, 9``."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and runs[-1][1] == line - 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
