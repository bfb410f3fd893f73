"""A pytest plugin: models claimed to be equal, and a failure that reads as ``twingrad compare``.

Installed with the package; ``-p no:twingrad`` leaves it out. It loads no framework before a test
asks for one::

    @pytest.mark.pair("my_pair.py")  # beside the test's own file
    def test_my_port(): ...


    def test_my_layers(assert_equal_models):
        assert_equal_models(make_torch, make_jax, batch=[x])
"""

import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twingrad.foreign import Claim, Untyped

if TYPE_CHECKING:
    from twingrad.result import NotEqual

PAIR = "pair"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{PAIR}(file): before the test, claim that the two models of this pair file, a path from "
        "the test's own folder, are equal (twingrad)",
    )


@pytest.fixture(scope="session")
def assert_equal_models() -> Claim:
    """``twingrad.assert_equal_models``, whose failure is shown as ``twingrad compare`` has it.

    Example::

        def test_my_port(assert_equal_models):
            assert_equal_models(make_torch, make_jax, batch=[x])
    """
    import twingrad

    return twingrad.assert_equal_models


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Hold the claims of the markers before the test's own."""
    for mark in pyfuncitem.iter_markers(PAIR):
        _hold(mark, pyfuncitem)
    return (yield)


def _hold(mark: pytest.Mark, item: pytest.Function) -> None:
    """Hold the claim of one marker; a pair that cannot be judged fails the test in one sentence.

    Of an error in the user's own code, the lines of that code stand under it.
    """
    if len(mark.args) != 1 or not isinstance(mark.args[0], str | Path) or mark.kwargs:
        pytest.fail(
            f'pytest.mark.{PAIR} takes one pair file, as @pytest.mark.{PAIR}("my_pair.py"); for a '
            "marker of this name that is not twingrad's, run pytest with -p no:twingrad",
            pytrace=False,
        )
    import twingrad
    from twingrad import user_code

    reason = None
    try:
        twingrad.assert_equal(item.path.parent / mark.args[0])
    except ValueError as error:
        reason = "\n".join(user_code.lines(error))
    if reason is not None:  # outside, so that the error is not shown as a second one
        pytest.fail(f"twingrad: {reason}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the tables in place of a traceback, unless another style of tracebacks was asked for."""
    report = yield
    result = sys.modules.get("twingrad.result")  # not loaded: nothing was claimed
    error = call.excinfo.value if call.excinfo else None
    asked = item.config.getoption("tbstyle", "auto") in ("auto", "long", "short")
    whole = item.config.getoption("fulltrace", False)
    if result and asked and not whole and isinstance(error, result.NotEqual) and report.failed:
        report.longrepr = _Shown(error, *_location(item, call))  # type: ignore[assignment]
    return report


def _location(item: pytest.Item, call: pytest.CallInfo[None]) -> tuple[str, int]:
    """Where the test makes the claim: the last line of a traceback that is its own file's."""
    path, line = item.path, (item.location[1] or 0) + 1
    for entry in call.excinfo.traceback if call.excinfo else ():
        if Path(entry.path) == path:
            line = entry.lineno + 1
    return str(path), line


@dataclass(frozen=True)
class _Crash:
    """The place of a failure and its summary, which pytest lists at the end."""

    path: str
    lineno: int
    message: str


class _Shown:
    """A failed claim as pytest prints it: the tables, the cause, the place in the test."""

    def __init__(self, error: "NotEqual", path: str, line: int):
        self.tables = error.comparison.table()
        self.reprcrash = _Crash(path, line, f"NotEqual: {error.summary}")

    def __str__(self) -> str:
        crash = self.reprcrash
        return f"{self.tables}\n\n{crash.path}:{crash.lineno}: {crash.message}"

    def toterminal(self, writer: Untyped) -> None:
        """Write it, in red what differs."""
        for line in str(self).splitlines():
            writer.line(line, red="DIFFERS" in line or line.startswith("In float"))
