"""Calls of the command line in tests."""

import pytest

from bench.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], *call: str) -> str:
    """The one sentence on stderr with which ``call`` is refused."""
    assert main(list(call)) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("twingrad: ")
    assert printed.err.count("\n") == 1, printed.err
    assert "Traceback" not in printed.err
    return printed.err
