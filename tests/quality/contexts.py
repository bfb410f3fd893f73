"""A plugin of pytest: coverage knows the test that reaches a line, in its processes too.

It also writes how long each test took, as ``{node id: seconds}``, to ``$TWINGRAD_DURATIONS``.
"""

import json
import os
import time
from pathlib import Path

import coverage
import pytest

NAME = "TWINGRAD_TEST"
_took: dict[str, float] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Name the test to coverage: here, and by the environment in processes that it starts."""
    measured = coverage.Coverage.current()
    os.environ[NAME] = item.nodeid
    if measured is not None:
        measured.switch_context(item.nodeid)
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        _took[item.nodeid] = time.perf_counter() - began
        os.environ.pop(NAME, None)
        if measured is not None:
            measured.switch_context("")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the times of this process's tests."""
    if folder := os.environ.get("TWINGRAD_DURATIONS"):
        path = Path(folder) / f"{os.getpid()}.json"
        path.write_text(json.dumps(_took))
