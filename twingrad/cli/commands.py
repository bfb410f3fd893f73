"""Commands as values: what each is called, takes and runs. Parser, help and refusals from that.

A front end has a list of them: the library's own, or with a checkout the workbench's as well::

    run_command(COMMANDS, ["compare", "my_pair.py"], about="Compare two models.")
"""

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from twingrad.cli.options import WIDTH, Declared, Parser, add_options, declared_options
from twingrad.suggestions import did_you_mean

PROG = "twingrad"


# Headings of the list of commands, in its order.
FRAMEWORKS = "compare the two frameworks"
PAIRS = "your own pair of models"
TRAINING = "train and generate"
MEASURING = "measure and predict"
INSTALLATION = "this installation"
GROUPS = (FRAMEWORKS, PAIRS, TRAINING, MEASURING, INSTALLATION)

# The fields of a dataclass that are options: all, or those that are named.
OptionSource = type | tuple[type, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    ``usage`` stands for its arguments, ``FILE.py``. ``options`` loads the dataclasses that declare
    its options, so that a call loads those of its own command alone. ``examples`` are calls, each
    with what it does.
    """

    name: str
    group: str
    summary: str
    about: str
    examples: tuple[tuple[str, str], ...]
    options: Callable[[], Sequence[OptionSource]]
    run: Callable[[argparse.Namespace], int]
    usage: str = ""
    listed: str = ""

    @property
    def title(self) -> str:
        """Its name in the list of commands."""
        return self.listed or self.name

    def declared(self) -> Iterator[Declared]:
        """Every option that it takes."""
        for options, only in self._sources():
            yield from declared_options(options, only)

    def parser(self) -> Parser:
        """The parser of what follows its name."""
        prog = f"{PROG} {self.name}"
        parser = Parser(
            prog=prog,
            usage=" ".join(filter(None, (prog, self.usage, "[options]"))),
            description=textwrap.fill(self.about, WIDTH - 2, break_on_hyphens=False),
            epilog=_examples(self.examples),
        )
        for options, only in self._sources():
            add_options(parser, options, only)
        return parser

    def _sources(self) -> Iterator[tuple[type, tuple[str, ...] | None]]:
        for source in self.options():
            yield source if isinstance(source, tuple) else (source, None)


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    """The examples as the end of a help text has them: each call under what it does."""
    lines = ["examples:"]
    for call, purpose in examples:
        lines += textwrap.wrap(f"# {purpose}", WIDTH - 4, initial_indent="  ")
        parts = textwrap.wrap(
            call,
            WIDTH - 6,
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        lines.append(" \\\n  ".join(["  " + parts[0], *parts[1:]]))  # as a shell reads it
    return "\n".join(lines)


def run_command(
    commands: Sequence[Command], arguments: Sequence[str], about: str, note: str = ""
) -> int:
    """Run the command that ``arguments`` begin with, or print the help of all; the exit status.

    Raises ``ValueError`` for a wrong call. A bare call prints the help and is no wrong one: nothing
    was asked that could have failed.
    """
    name, *words = [*arguments] or ["--help"]
    if name == "help":
        name, *words = [*words, "--help"]
    if name in ("-h", "--help"):
        print(overview(commands, about, note), end="")
        return 0
    if name == "--version":
        from twingrad.cli import version

        print(version.text())
        return 0
    known: dict[str, Command] = {}
    for command in commands:
        known.setdefault(command.name, command)
    if name.startswith("-"):
        question = did_you_mean(name, ("--help", "--version"))
        raise ValueError(
            f"unknown option {name}:{question} a command comes first, as in "
            f"{PROG} {commands[0].name}; see {PROG} --help"
        )
    if name not in known:
        question = did_you_mean(name, known)
        raise ValueError(
            f"unknown command {name!r}:{question} choose from {', '.join(known)}; see {PROG} --help"
            + (f". {note}" if note else "")
        )
    parser = known[name].parser()
    parser.refuse_unknown_options(words)
    parsed = parser.parse_args(words)
    parsed.argv = [name, *words]
    return known[name].run(parsed)


def overview(commands: Sequence[Command], about: str, note: str = "") -> str:
    """The help of a bare call: every command in its group, with one line each."""
    column = 2 + max(len(command.title) for command in commands) + 2
    lines = [f"usage: {PROG} COMMAND [options]", "", *textwrap.wrap(about, WIDTH - 2)]
    for group in GROUPS:
        members = [command for command in commands if command.group == group]
        if members:
            lines += ["", f"{group}:"]
        for command in members:
            lines += _entry(command.title, command.summary, column)
    lines += ["", "options:"]
    lines += _entry("-h, --help", f"this help; {PROG} COMMAND --help has a command's", column)
    lines += _entry("--version", "versions of what is installed, and the devices", column)
    lines += ["", *textwrap.wrap(note, WIDTH - 2)] if note else []
    lines += [
        "",
        "Exit status: 0 all holds, 1 something does not, 2 the call or an input is wrong.",
    ]
    return "\n".join(lines) + "\n"


def _entry(name: str, text: str, column: int) -> list[str]:
    wrapped = textwrap.wrap(text, WIDTH - column, break_on_hyphens=False)
    head = f"  {name}".ljust(column)
    return [f"{head}{wrapped[0]}", *(" " * column + line for line in wrapped[1:])]
