"""All that README and docs say is done in order, as a newcomer does it: the walk of the long set.

``TWINGRAD_WALK_ENVIRONMENT=.venv`` uses the packages of an environment, where the README would
install them anew; the ways with other frameworks than it has are then left out.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.shell import Outcome, Shell
from tests.docs.walk import Plan, judged, stray, unlike, walk

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
    wrong = walk(plan)
    assert not wrong, "\n".join(wrong)


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


@pytest.fixture
def verdict(tmp_path):
    """What is wrong with a command of a page that ended with a status and printed a text."""

    def judge(marker, status, text, *, way="terminal", frameworks=("torch", "jax"), name="compare"):
        mark = pages.mark(marker, "page")
        command = pages.Command("page", 1, f"twingrad {name}", mark)
        plan = Plan(folder=tmp_path, way=way, frameworks=frameworks, environment=None)
        return list(judged(Outcome(status, text, 1.0), command, plan))

    return judge


def test_the_status_is_the_one_that_the_page_gives(verdict):
    assert verdict("run", 0, "equal") == []
    assert verdict("run, status 1", 1, "different") == []
    assert verdict("run", 1, "different") == ["status 1, not 0"]
    assert verdict("run, status 1", 0, "equal") == ["status 0, not 1"]


def test_a_traceback_is_wrong_whatever_the_status(verdict):
    assert verdict("run", 0, "Traceback (most recent call last):\nKeyError: 'values'") == [
        "a traceback"
    ]


def test_a_pasted_block_may_print_an_error_but_may_not_raise_one(tmp_path):
    plan = Plan(folder=tmp_path, way="pipe", frameworks=("torch", "jax"), environment=None)
    python = Shell(tmp_path, "pipe", {})
    wrong = {}
    for name, block in (
        (
            "caught",
            "try:\n    [][0]\nexcept IndexError as error:\n    print('IndexError:', error)\n\n",
        ),
        ("raised", "[][0]\n"),
        ("unreadable", "for x in ():\n    x\nprint(1)\n"),
    ):
        (tmp_path / "page.py").write_text(block)
        outcome = python.run("python3 -i < page.py", 60)
        wrong[name] = "a block that cannot be pasted" in judged(outcome, None, plan)
    assert wrong == {"caught": False, "raised": True, "unreadable": True}


def test_without_a_framework_that_it_needs_a_command_is_refused(verdict):
    refusal = "twingrad: jax is not installed: pip install -e '.[jax,bench]'"
    assert verdict("run, needs both", 2, refusal, frameworks=("torch",)) == []
    assert verdict("run, needs torch", 0, "done", frameworks=("torch",)) == []
    for status, text in ((0, "done"), (1, refusal), (2, "usage: compare")):
        (wrong,) = verdict("run, needs both", status, text, frameworks=("torch",))
        assert "it is not refused" in wrong


def test_a_table_is_neither_wider_than_the_terminal_nor_cut(verdict):
    wide = f" gate{' ' * 70}tensors   worst"
    assert len(verdict("run", 0, wide)) == 1
    assert verdict("run", 0, wide, name="sample") == []  # a model's own words
    assert verdict("run", 0, wide, way="pipe") == []
    assert verdict("run", 0, "a sentence that the terminal folds by itself " * 3) == []
    assert verdict("run", 0, " optimiz\u2026   4") == ["a cell is cut:  optimiz\u2026   4"]


def test_a_listing_is_wrong_where_it_differs_and_where_its_command_was_not_tried():
    (listing,) = pages.listings("docs/plan.md")
    printed = {listing.command: listing.text.splitlines()}
    assert list(unlike(listing.page, "pipe", printed, is_whole=True)) == []
    assert len(list(unlike(listing.page, "pipe", {}, is_whole=True))) == 1
    assert list(unlike(listing.page, "pipe", {}, is_whole=False)) == []
    assert len(list(unlike(listing.page, "pipe", {listing.command: []}, is_whole=False))) > 10
