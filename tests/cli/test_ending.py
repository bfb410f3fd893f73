"""How a command ends: one sentence and a status, whatever happens to it."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.sources import ROOT
from twingrad.cli.ending import STOPPING, exit_status
from twingrad.printable import MOST, printable, sentence
from twingrad.terminal import new_console

pytestmark = pytest.mark.attack("sentences")

# A program that runs COMMAND as the front door does.
PROGRAM = "import os, sys; from twingrad.cli.ending import exit_status; sys.exit(exit_status({}))"
STEERING = "\x1b]0;title\x07\x1b[2Jtext\x9b31m\r\u202egnp.\ud800"


def _program(command: str, **streams) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-c", PROGRAM.format(command)]
    return subprocess.run(words, cwd=ROOT, text=True, stderr=subprocess.PIPE, **streams)


def _raising(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        KeyError("lost"),
        SystemExit(0),
        GeneratorExit(),
        BaseException("odd"),
        RecursionError("deep"),
        UnicodeEncodeError("ascii", "∞", 0, 1, "ordinal not in range"),
        BrokenPipeError(errno.EPIPE, "of a worker's pipe"),
        OSError("AF_UNIX path too long"),
    ],
    ids=repr,
)
def test_an_error_that_nobody_foresaw_is_one_sentence(error, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_status(_raising(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith("twingrad: your code raised ")  # this file is no library's
    first = said.splitlines()[0]
    if not isinstance(error, BrokenPipeError):
        traceback = Path(first.rpartition("its traceback is in ")[2]).read_text()
        assert type(error).__name__ in traceback
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("wrong"), 2, "twingrad: wrong\n"),
        (KeyboardInterrupt(), 130, "twingrad: interrupted\n"),
        (MemoryError(), 2, "twingrad: not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "file"), 2, "file: No space left"),
    ],
    ids=repr,
)
def test_a_foreseen_end_has_its_sentence_and_status(error, status, words, capsys):
    assert exit_status(_raising(error)) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")],
)
def test_a_signal_puts_everything_away_and_is_said(number, word, capsys):
    put_away = []

    def run():
        try:
            signal.raise_signal(number)
        finally:
            put_away.append(True)

    before = signal.signal(number, signal.SIG_DFL)  # ignored in tests that nohup has started
    try:
        assert exit_status(run) == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert put_away == [True]
    assert capsys.readouterr().err == f"twingrad: {word}\n"


def test_an_ignored_signal_stays_ignored(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_status(lambda: signal.raise_signal(signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow("*10*")
@pytest.mark.parametrize("command", ["lambda: print('x' * 10**6) or 0", "lambda: print('x') or 0"])
def test_a_closed_pipe_ends_a_command_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = _program(command, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, "")


def test_rich_does_not_turn_a_closed_pipe_into_a_failed_gate():
    reading, writing = os.pipe()
    os.close(reading)
    command = "lambda: __import__('twingrad.terminal').terminal.new_console().print('x') or 0"
    with os.fdopen(writing, "wb") as pipe:
        done = _program(command, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_under_stdout_is_one_sentence():
    with Path("/dev/full").open("wb") as full:
        done = _program("lambda: print('x') or 0", stdout=full)
    assert done.returncode == 2
    assert re.fullmatch("twingrad: No space left on device; .*\n", done.stderr)


NO_LANGUAGE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, NO_LANGUAGE], ids=str)
def test_stdout_without_the_character_prints_a_substitute(variables):
    environment = {**os.environ, **variables}
    done = _program(r"lambda: print('1 \u221e 2') or 0", stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 ? 2\n", "")


def test_closed_streams_are_opened_on_nothing(tmp_path):
    program = (
        "import os, sys; from twingrad.cli.ending import open_standard_streams as opened; opened();"
        "file = open('file', 'w'); os.write(1, b'of a library'); print('of ours');"
        "sys.exit(len(open('file').read()) + (file.fileno() < 3))"
    )
    words = f'exec {sys.executable} -c "$0" <&- >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", words, program], cwd=tmp_path, env=environment)
    assert done.returncode == 0


def test_text_of_others_cannot_steer_the_terminal(capsys):
    shown = printable(STEERING)
    assert shown.isprintable()
    assert shown.startswith(r"\x1b]0;title\x07\x1b[2Jtext")
    assert printable("plain ∞ 漢字\n\tas it is") == "plain ∞ 漢字\n\tas it is"
    assert exit_status(_raising(ValueError(STEERING))) == 2
    assert capsys.readouterr().err == f"twingrad: {shown}\n".replace(r"\r", " ").replace("  ", " ")


def test_a_console_escapes_what_would_steer_it(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = new_console()
    console.file = io.StringIO()
    console.print("[red]ours[/red]", STEERING, markup=True)
    said = console.file.getvalue()
    assert "\x1b[31mours" in said
    assert said.count("\x1b") == 2
    assert r"\x1b]0;title\x07" in said


def test_a_long_sentence_is_cut_in_its_middle(capsys):
    text = "the file " + "x" * 100_000 + ": give another"
    assert exit_status(_raising(ValueError(text))) == 2
    said = capsys.readouterr().err
    assert len(said) <= MOST + len("twingrad: \n")
    assert said.endswith("x: give another\n")
    assert sentence("short  and\nin lines") == "short and in lines"


LOST = """
import signal, time

class Last:
    def __del__(self):
        signal.raise_signal(signal.{number})

def run():
    last = Last()
    del last
    time.sleep(20)
    return 0
"""
IMPORTING = """
import sys, time
from pathlib import Path
from twingrad.cli import ending

Path("native.py").write_text("import signal; signal.raise_signal(signal.{number})")
ending._NATIVE = ("native",)
sys.path.insert(0, "")

def run():
    native = None
    try:
        import native
        time.sleep(20)
    finally:
        print("imported" if native else "broken off")
    return 0
"""
# The same, with an import that hangs.
HANGING = IMPORTING.replace(
    "signal.raise_signal(signal.{number})",
    "signal.raise_signal(signal.{number}); import time; time.sleep(20)",
).replace("ending._NATIVE =", "ending._MOST_S = 0.2\nending._NATIVE =")
PROGRAMS = {
    "lost": (LOST, ""),
    "importing": (IMPORTING, "imported\n"),
    "hanging": (HANGING, "broken off\n"),
}
ENDED = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
from twingrad.cli.ending import STOPPING, exit_status
sys.exit(exit_status(run))
"""


@pytest.mark.parametrize(("program", "printed"), PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_though_its_exception_cannot_be_raised(
    tmp_path, program, printed, number
):
    """In a destructor Python only tells of it; C++ that imports Python ends the process."""
    words = f"import sys\n{program.format(number=number.name)}{ENDED}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 128 + number
    assert done.stderr == f"twingrad: {STOPPING[number]}\n"
    assert done.stdout == printed


def test_what_else_is_lost_in_a_destructor_is_told(capsys):
    class Wrong:
        def __del__(self):
            raise ValueError("nobody hears it")

    told = []
    before, sys.unraisablehook = sys.unraisablehook, told.append
    try:
        assert exit_status(lambda: bool(Wrong()) - 1) == 0
        assert sys.unraisablehook == told.append
    finally:
        sys.unraisablehook = before
    assert [str(one.exc_value) for one in told] == ["nobody hears it"]
