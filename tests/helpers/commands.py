"""Calls of the command line in tests."""

import re

import pytest

from bench.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], *call: str) -> str:
    """The one sentence on stderr with which ``call`` is refused."""
    assert main(list(call)) == 2
    complaint = without_stages(capsys.readouterr().err)
    assert complaint.startswith("twingrad: ")
    assert complaint.count("\n") == 1, complaint
    assert "Traceback" not in complaint
    return complaint


def equal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What ``twingrad compare`` prints; a gate that fails fails the test with its tables alone."""
    status = main(["compare", *words])
    printed = capsys.readouterr()
    if status:
        pytest.fail(
            f"twingrad compare {' '.join(words)}\n{printed.out}{printed.err}", pytrace=False
        )
    return printed.out


def without_stages(text: str) -> str:
    """What is on stderr, without the lines that say in a pipe how far a command has come."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r" *\d+ s  \S", line))
