"""A test that fails with a table and no traceback is listed at the end by its first line alone.

Where the variable ``CI`` is set, pytest's list of failures repeats each message whole, and every
table would be printed twice.
"""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shorten the summary of ``pytest.fail(..., pytrace=False)``; what is shown above it stays."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, pytest.fail.Exception) and not error.pytrace:
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = crash.message.partition("\n")[0]
    return report
