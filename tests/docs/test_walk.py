"""All that README and docs say is done in order, as a newcomer does it: the walk of the long set.

``TWINGRAD_WALK_ENVIRONMENT=.venv`` uses the packages of an environment, where the README would
install them anew; the ways with other frameworks than it has are then left out.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.shell import Shell
from tests.docs.walk import Plan, stray, walk

# In the terminal and in the pipe with both frameworks; with one, where only refusals differ, once.
WAYS = [("terminal", ("torch", "jax")), ("pipe", ("torch", "jax"))]
WAYS += [("terminal", ("torch",)), ("terminal", ("jax",))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "names"),
    WAYS,
    ids=lambda value: "-".join((value,) if isinstance(value, str) else value),
)
def test_all_that_the_pages_say_holds(way, names, tmp_path):
    lender = os.environ.get("TWINGRAD_WALK_ENVIRONMENT")
    environment = Path(lender).absolute() if lender else None
    if environment and _frameworks(environment) != names:
        pytest.skip("the environment that is lent has other frameworks")
    plan = Plan(folder=tmp_path, way=way, frameworks=names, environment=environment)
    assert walk(plan) == []


def _frameworks(environment: Path) -> tuple[str, ...]:
    """The frameworks that are installed in an environment."""
    program = "import sys, importlib.util as u; print(*filter(u.find_spec, sys.argv[1:]))"
    call = [environment / "bin" / "python", "-c", program, *pages.FRAMEWORKS]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return tuple(done.stdout.split())


@pytest.mark.parametrize("way", ["terminal", "pipe"])
def test_a_shell_keeps_its_folder_and_variables(way, tmp_path):
    shell = Shell(tmp_path, way, {})
    assert shell.run("mkdir inner && cd inner && export WORD=kept", 60).status == 0
    outcome = shell.run('pwd; echo "$WORD"; tput cols; exit 3', 60)
    assert outcome.status == 3
    assert outcome.lines[:2] == [str(tmp_path / "inner"), "kept"]


def test_a_command_that_hangs_is_stopped(tmp_path):
    outcome = Shell(tmp_path, "pipe", {}).run("echo begun; sleep 600", 1)
    assert outcome.status != 0
    assert "begun" in outcome.text


def test_a_terminal_is_eighty_columns_wide_without_colours(tmp_path):
    program = "import os, sys; print(os.get_terminal_size().columns, sys.stdout.isatty())"
    outcome = Shell(tmp_path, "terminal", {}).run(f"python3 -c '{program}'; echo $NO_COLOR", 60)
    assert outcome.lines[:2] == ["80 True", "1"]


def test_a_listing_is_held_against_what_was_printed():
    shown = " program   tensors   error\n tensors        52     0.3   equal\n"
    listing = pages.Listing("page", 1, "rows", "compare", shown)
    assert not listing.missing_from([" tensors   52   0.7   equal"])
    assert listing.missing_from([" tensors   52   0.7   different"])
    assert listing.missing_from([" tensors   51   0.3   equal"])


@pytest.mark.parametrize(
    "row",
    [
        "W0000 00:00:1764367649.123456    4154 cpu_client.cc:35] something of XLA's",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "2026-11-28 22:07:29.123456: W external/xla/xla/service/platform_util.cc:210] no device",
        "[W1128 22:07:29.123456789 socket.cpp:204] The hostname of the client cannot be retrieved",
        "/usr/lib/python3/site-packages/torch/nn/functional.py:12: UserWarning: deprecated",
    ],
)
def test_a_line_of_a_library_is_told_from_those_of_the_project(row):
    ours = "twingrad: the file F.json is no record: give one that bench --json has written"
    assert stray([ours, row, "  12 s  gpt2 tiny, float32: judging every tensor"]) == [row]
