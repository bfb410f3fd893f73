"""Fixtures of the tests with bad files; ``TWINGRAD_FUZZ_RECORD=FILE`` writes the tally there."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

from bench.harness import frameworks, machine, records
from bench.harness.records import Record
from tests.helpers.fuzz import EQUAL, TALLY


@pytest.fixture(scope="session", autouse=True)
def counted() -> Iterator[None]:
    """Write a record of all that was tried, once everything has been."""
    began = time.perf_counter()
    yield
    if path := os.environ.get("TWINGRAD_FUZZ_RECORD"):
        record = Record(
            machine.environment(frameworks.both(), "cpu"),
            {
                "seconds": round(time.perf_counter() - began, 1),
                "configurations": len(EQUAL),
                "readers": {part: dict(sorted(count.items())) for part, count in TALLY.items()},
            },
        )
        records.save(path, record)


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """Leave signatures unchecked, as a program runs them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files, which nothing but a test may write to."""
    return tmp_path_factory.mktemp("fuzz")
