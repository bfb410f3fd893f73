"""Every command of the pages: marked, with options that exist, accepted by the parser."""

import contextlib
import re

import pytest

from bench.cli.main import main
from tests.docs import pages
from twingrad.cli.options import Parser

# The changelog tells of commands, and nobody to type one.
TYPED = [page for page in pages.ORDER if page != "CHANGELOG.md"]
COMMANDS = [command for page in TYPED for command in pages.commands(page)]
# A name alone within a sentence is a mention.
CALLS = sorted(
    {tuple(call) for command in COMMANDS for call in command.calls if command.marker or call[1:]}
)
MARKED = {command.text for command in COMMANDS if command.marker}
LONG_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\w")
# Options of git, pytest, torchrun, SLURM and this project's modules that pages name.
OTHERS = {
    "--all",
    "--check",
    "--nnodes",
    "--nproc-per-node",
    "--max-restarts",
    "--rdzv-backend",
} | {
    *("--rdzv-endpoint", "--nodes", "--ntasks-per-node", "--gpus-per-task", "--gpu-bind"),
    *("--signal", "--kill-on-bad-exit", "--filename", "--processor-times", "--share", "--slow"),
}


ACCEPTED = "the parser took the call"


@pytest.fixture
def parsing(monkeypatch):
    """The command line, which ends as soon as a call is parsed."""
    parse = Parser.parse_args

    def accept(self, *arguments):
        parse(self, *arguments)
        raise ValueError(ACCEPTED)

    monkeypatch.setattr(Parser, "parse_args", accept)


def test_every_page_has_its_place_in_the_walk():
    found = {*pages.ROOT.glob("*.md"), *pages.DOCS.glob("*.md")}
    assert {pages.ROOT / page for page in pages.ORDER} == found


@pytest.mark.parametrize("page", TYPED)
def test_every_command_says_how_it_is_tried(page):
    for command in pages.commands(page):
        words = command.text.split()
        is_name = len(words) == 2 or words[:2] == ["python", "-m"]
        is_mention = command.is_span and (is_name or command.text in MARKED)
        assert command.marker or is_mention, f"line {command.line}: {command.text} has no marker"


@pytest.mark.parametrize("row", ["runs", "small", "gpu", "run, needs numpy", "run, slowly"])
def test_a_marker_that_says_nothing_is_refused(row):
    with pytest.raises(ValueError, match="page"):
        pages.mark(row, "page")


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_the_parser_takes_every_call(call, parsing, capsys):
    """What a page tells its reader to type is parsed, whether it is run anywhere or not."""
    assert main(list(call)) == 2
    assert capsys.readouterr().err == f"twingrad: {ACCEPTED}\n"


def test_every_long_option_of_a_page_exists(capsys):
    known = {"--help", "--version", *OTHERS}
    for name in sorted({call[0] for call in CALLS}):
        with contextlib.suppress(SystemExit):
            main([name, "--help"])
        known |= {*LONG_OPTION.findall(capsys.readouterr().out)}
    for page in pages.ORDER:
        text = (pages.ROOT / page).read_text(encoding="utf-8")
        unknown = {*LONG_OPTION.findall(text)} - known
        assert not unknown, f"{page}: no command has {', '.join(sorted(unknown))}"
