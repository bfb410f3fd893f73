"""Tests that attack: which group each belongs to, how often it tried, and whether it was withstood.

``@pytest.mark.attack(group)`` says that a test does harm on purpose, or gives something that cannot
be right, and fails where that is not withstood. It counts once, or as often as the test says with
``record_property("attacks", N)``. ``TWINGRAD_ATTACKS_RECORD=FILE`` writes the counts by group
there: ``python -m bench.studies attacks`` runs these tests alone, and does.
"""

import os
import time
from collections import Counter

import pytest

from bench.harness import frameworks, machine, records
from bench.harness.records import Record
from bench.studies.attacking import GROUPS

_GROUP, _TRIED = "attack", "attacks"
_COUNTS = pytest.StashKey[dict[str, Counter[str]]]()
_BEGAN = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_COUNTS] = {group: Counter() for group in GROUPS}
    config.stash[_BEGAN] = time.perf_counter()
    if not hasattr(config, "workerinput"):  # reports of all workers come to the main process
        config.pluginmanager.register(_Tally(config), "attacks_tally")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if mark := item.get_closest_marker("attack"):
            (group,) = mark.args
            if group not in GROUPS:
                raise pytest.UsageError(f"{item.nodeid}: an attack on {group!r}, which is no group")
            item.user_properties.append((_GROUP, group))


class _Tally:
    """Counts the reports of attacks, and writes the record at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if (group := said.get(_GROUP)) is None or not _is_last(report):
            return
        count = self.config.stash[_COUNTS][str(group)]
        tried = int(str(said.get(_TRIED, 1)))
        if report.skipped:
            count["skipped"] += 1
            return
        count["tests"] += 1
        count["tried"] += tried
        count["withstood"] += tried if report.passed else 0

    def pytest_sessionfinish(self) -> None:
        if path := os.environ.get("TWINGRAD_ATTACKS_RECORD"):
            names = ("tests", "tried", "withstood", "skipped")
            counts = self.config.stash[_COUNTS]
            body = {
                "seconds": round(time.perf_counter() - self.config.stash[_BEGAN], 1),
                "kills": int(os.environ.get("TWINGRAD_KILLS", "0")),
                "groups": {
                    group: {name: counts[group][name] for name in names} for group in GROUPS
                },
            }
            environment = machine.environment(frameworks.both(), "cpu")
            records.save(path, Record(environment, body))


def _is_last(report: pytest.TestReport) -> bool:
    """Whether this report says how a test has ended: of its call, or of a setup without one."""
    return report.when == "call" or (report.when == "setup" and not report.passed)
