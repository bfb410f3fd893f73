"""Processor time by test, children included: what a test costs, whatever else the machine does.

``pytest --processor-times FILE`` writes ``{node id: seconds}``, the most expensive first.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

_last = 0.0


def _now() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--processor-times", metavar="FILE", type=Path, help="write the processor time of each test"
    )


def pytest_runtest_logstart() -> None:
    global _last
    _last = _now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Lay the processor time since the last report of this process into this one."""
    global _last
    report = yield
    now = _now()
    report.processor_s, _last = now - _last, now
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Add up what the reports hold, and write it."""
    if not (path := config.getoption("processor_times")):
        return
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] += getattr(report, "processor_s", 0.0)
    ordered = sorted(seconds.items(), key=lambda pair: -pair[1])
    path.write_text(json.dumps({name: round(s, 2) for name, s in ordered}, indent=0) + "\n")
    terminalreporter.write_line(
        f"{sum(seconds.values()):.0f} s of processor time, by test in {path}"
    )
