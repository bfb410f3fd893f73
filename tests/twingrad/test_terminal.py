"""Consoles and progress on a terminal, in a pipe, and without colour."""

import io

import pytest
from rich.console import Console

from twingrad import terminal
from twingrad.terminal import PIPE_WIDTH, is_live, new_console, progress


@pytest.fixture
def environment(monkeypatch):
    for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


def test_a_pipe_has_a_fixed_width_and_columns_changes_it(environment):
    assert new_console().width == PIPE_WIDTH
    environment.setenv("COLUMNS", "80")
    assert new_console().width == 80


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_escape_sequence_where_none_is_wanted(environment, capsys, variable):
    environment.setenv(*variable)
    environment.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    console = new_console()
    assert console.is_terminal
    assert not is_live(console)
    with progress(console) as say:
        say("a stage")
        console.print("[bold red]a result[/]")
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert printed.out == "a result\n"
    assert "a stage" in printed.err


def test_a_log_has_a_line_a_stage_with_the_time(environment, capsys):
    with progress(new_console()) as say:
        say("reading [a] file")
        say("reading [a] file")
        say("judging")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "   0 s  reading [a] file\n   0 s  judging\n"


def test_a_log_has_few_lines_of_details(environment, capsys, monkeypatch):
    with progress(new_console()) as say:
        for i in range(100):
            say(f"detail {i}", detail=True)
        monkeypatch.setattr(terminal, "DETAIL_S", 0.0)
        say("detail 100", detail=True)
    assert capsys.readouterr().err.count("detail") == 2


def test_a_log_says_that_a_long_stage_goes_on(environment, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "STILL_S", 0.0)
    with progress(new_console()) as say:
        say("compiling")
        terminal.time.sleep(1.2)
    assert "still: compiling" in capsys.readouterr().err


def test_a_live_line_takes_names_as_they_are(environment):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    assert is_live(console)
    with progress(console) as say:
        say("file [/]")
    assert "file [/]" in text.getvalue()


def test_a_quiet_console_shows_no_progress(environment, capsys):
    with progress(Console(quiet=True)) as say:
        say("a stage")
    assert capsys.readouterr().err == ""
