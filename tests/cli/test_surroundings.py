"""Commands in odd surroundings: without assertions, languages, colours, streams or columns."""

import os
import subprocess
import sys

import pytest

from bench.harness import frameworks
from tests.helpers.sources import ROOT

SURROUNDINGS = {
    "-O": (["-O"], {}, ""),
    "-OO": (["-OO"], {}, ""),
    "C": ([], {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
    "ascii": ([], {"PYTHONIOENCODING": "ascii"}, ""),
    "dumb": ([], {"TERM": "dumb", "FORCE_COLOR": "1"}, ""),
    "no colour": ([], {"NO_COLOR": "1"}, ""),
    "20 columns": ([], {"COLUMNS": "20"}, ""),
    "no stdin": ([], {}, "<&-"),
    "no stdout": ([], {}, ">&-"),
    "no streams": ([], {}, "<&- >&- 2>&-"),
}
COMMANDS = {
    "help": ["--help"],
    "wrong": ["compere"],
    "plan": ["plan", "--preset", "tiny"],
    "compare": ["compare", "sigmoid-bce", "--dtype", "float64"],
    "tensors": ["tensors"],
    "train": ["train", "--preset", "tiny", "--steps", "2", "--length", "16", "--batch-size", "2"],
}


@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
@pytest.mark.slow(
    *("*-plan", "*-compare", "*-tensors", "*-train", "*-help"),
    *("-O-*", "C-*", "ascii-*", "dumb-*", "no colour-*", "no std*"),
)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_a_command_ends_in_no_traceback_anywhere(tmp_path, surroundings, command):
    switches, variables, redirected = SURROUNDINGS[surroundings]
    words = [sys.executable, *switches, "-m", "twingrad", *COMMANDS[command]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == (2 if command == "wrong" else 0), done.stderr
