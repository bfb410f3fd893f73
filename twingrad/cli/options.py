"""Command-line options declared once, as the fields of a frozen dataclass.

A command's dataclass is the one place that has its options, their types, defaults and help; the
parser is made from it, and what was parsed becomes an instance of it::

    @dataclass(frozen=True, kw_only=True)
    class PlanOptions:
        devices: int = option(1, metavar="N", help="number of devices")
        json: Path | None = option(None, metavar="FILE", help="write the plan as JSON")

    add_options(parser, PlanOptions)
    options = read_options(PlanOptions, parser.parse_args())
"""

import argparse
import dataclasses
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from twingrad.suggestions import choose, did_you_mean, nearby_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["HelpPrinted", "Parser", "add_options", "choose", "option", "read_options"]

Value = str | int | float | bool | Path | tuple[str, ...] | None
_KINDS: tuple[type, ...] = (str, int, float, bool, Path)
_KEY = "option"
T = TypeVar("T", bound="DataclassInstance")
D = TypeVar("D")


# Columns of a help text, as many as the narrowest terminal has.
WIDTH = 80
# What stands for the value of an option whose own declaration does not say.
_METAVARS: Mapping[type, str] = {int: "N", float: "X", Path: "PATH"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """How one field is written on the command line.

    ``choices`` are the allowed values. A ``positional`` has no dashes before its name.
    Of several values, ``repeated`` has the option written once for each, else they follow it. A
    ``required`` option has to be given, whatever its field's default is. ``group`` is the heading
    under which the help lists it.
    ``show_default`` says the default at the end of the help. ``otherwise`` is the value in effect
    where the option is left out and its field is None, or a function that finds it; the help says
    it as the default. ``rule`` says in words when the default is another.
    Completion in a shell offers the choices, the words of ``offers``, which are not all that is
    allowed, and files where the field is a path or ``files`` is set.
    """

    help: str
    group: str = "options"
    metavar: str | None = None
    choices: Collection[str] = ()
    positional: bool = False
    repeated: bool = False
    required: bool = False
    show_default: bool = True
    parse: Callable[[str], Value] | None = None
    otherwise: Value | Callable[[], Value] = None
    rule: str = ""
    offers: Collection[str] = ()
    files: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """An option of a command with the field it comes from: its name, default and type."""

    name: str
    default: object
    option: Option
    kind: type
    several: bool

    @property
    def flag(self) -> str:
        """The option as it is typed, ``--batch-size``; a positional's bare name."""
        return self.name if self.option.positional else "--" + self.name.replace("_", "-")

    @property
    def takes_files(self) -> bool:
        """Whether completion offers files for its value."""
        return self.option.files or self.kind is Path

    @property
    def metavar(self) -> str | None:
        """What stands for its value in usage and help; None for an option without a value."""
        if self.kind is bool:
            return None
        return self.option.metavar or _METAVARS.get(self.kind, self.name.rpartition("_")[2].upper())

    @property
    def effective_default(self) -> object:
        """The value in effect where the option is left out; None where there is none to tell."""
        if self.option.required or self.kind is bool:
            return None
        if self.default not in (None, ()):
            return self.default
        otherwise = self.option.otherwise
        return otherwise() if callable(otherwise) else otherwise

    @property
    def default_text(self) -> str:
        """The default as the help says it, with its rule; empty where there is none to tell."""
        value = self.effective_default
        if value is None or not self.option.show_default:
            return ""
        shown = " ".join(value) if isinstance(value, tuple) else value
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        return f"default {shown}" + (f" ({self.option.rule})" if self.option.rule else "")

    @property
    def help(self) -> str:
        """What the option does, its choices, and its default."""
        text = self.option.help
        if self.option.choices:
            text += f": {', '.join(self.option.choices)}"
        return "; ".join(filter(None, (text, self.default_text)))


def option(
    default: D,
    *,
    help: str,
    group: str = "options",
    metavar: str | None = None,
    choices: Collection[str] = (),
    positional: bool = False,
    repeated: bool = False,
    required: bool = False,
    show_default: bool = True,
    parse: Callable[[str], Value] | None = None,
    otherwise: Value | Callable[[], Value] = None,
    rule: str = "",
    offers: Collection[str] = (),
    files: bool = False,
) -> D:
    """A dataclass field with this default that is also an option of the command line.

    ``parse`` makes the value of the text where the field's own type cannot; its ``ValueError`` is
    the sentence that the user reads.
    """
    declared = Option(
        help=help,
        group=group,
        metavar=metavar,
        choices=choices,
        positional=positional,
        repeated=repeated,
        required=required,
        show_default=show_default,
        parse=parse,
        otherwise=otherwise,
        rule=rule,
        offers=offers,
        files=files,
    )
    return dataclasses.field(default=default, metadata={_KEY: declared})


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help within 80 columns that breaks no word, not at a hyphen either."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


class HelpPrinted(SystemExit):
    """The end of a call with ``--help``, whose text has been printed: status 0."""


class Parser(argparse.ArgumentParser):
    """A parser that refuses a call in one sentence and takes no abbreviated options."""

    def __init__(
        self,
        *,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        parents: Sequence[argparse.ArgumentParser] = (),
        add_help: bool = True,
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            parents=parents,
            add_help=add_help,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        self._positionals.title = "argument"

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError`` with the message and where to read on."""
        end = "" if message.endswith("?") else ";"
        raise ValueError(f"{message}{end} see {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise ``HelpPrinted``: all else that ends a call here is a ``ValueError``."""
        raise HelpPrinted(status)

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Raise ``ValueError`` naming the first of ``words`` that is no option of this parser's.

        Asked before parsing, which would otherwise take the value after such an option for an
        argument, or complain of a required option that is there with a slip in it.
        """
        known = self._option_string_actions
        for before, word in pairwise(("", *words)):
            if word == "--":
                return
            name = word.partition("=")[0]
            # Words with a space are values, and so are negative numbers: argparse's own rules.
            dashed = name.startswith("-") and name != "-" and " " not in word
            if not dashed or self._negative_number_matcher.match(word) or name in known:
                continue
            if before in known and known[before].nargs is None and not name.startswith("--"):
                self.error(f"{before} has no value: one that begins with a dash is {before}={word}")
            self.error(f"unknown option {name}:{did_you_mean(name, known)}".rstrip(":"))


def declared_options(options: type, only: Collection[str] | None = None) -> Iterator[Declared]:
    """Every option that the dataclass ``options`` declares, or those of the fields ``only``."""
    for field, declared in _declared(options):
        if only is None or field.name in only:
            kind, several = _type(options, field.name)
            yield Declared(
                name=field.name,
                default=field.default,
                option=declared,
                kind=kind,
                several=several,
            )


def add_options(
    parser: argparse.ArgumentParser, options: type, only: Collection[str] | None = None
) -> None:
    """Add to ``parser`` every option that the dataclass ``options`` declares, in its groups.

    ``only`` names the fields to take, where a command shares some of another's.
    """
    groups = {group.title: group for group in parser._action_groups}
    for declared in declared_options(options, only):
        title = "argument" if declared.option.positional else declared.option.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add(groups[title], declared)
    # --help and what is in no group come last.
    parser._action_groups.sort(key=lambda group: group is parser._optionals)


def read_options(
    options: type[T], parsed: argparse.Namespace, only: Collection[str] | None = None
) -> T:
    """An instance of the dataclass ``options`` of what was parsed, or of ``only`` these fields.

    Raises ``ValueError`` naming a value that is none of its option's choices.
    """
    values: dict[str, object] = {}
    for field, declared in _declared(options):
        if only is not None and field.name not in only:
            continue
        value = getattr(parsed, field.name, None)
        if value is None:
            continue  # the dataclass has the default
        if declared.choices:
            _refuse_unknown(field.name.replace("_", " "), value, declared)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(options(), **values)


def _refuse_unknown(kind: str, value: str | Sequence[str], declared: Option) -> None:
    """Raise ``ValueError`` unless ``value`` is of the choices; it names a file nearly so called."""
    if declared.files and isinstance(value, str) and value not in declared.choices:
        question = nearby_file(Path(value)) or did_you_mean(value, declared.choices)
        choices = f"choose from {', '.join(declared.choices)}, or name a file that ends in .py"
        raise ValueError(f"unknown {kind} {value!r}:{question} {choices}")
    choose(kind, value, declared.choices)


def _declared(options: type) -> Iterator[tuple["dataclasses.Field[Value]", Option]]:
    for field in dataclasses.fields(options):
        if _KEY in field.metadata:
            yield field, field.metadata[_KEY]


def _type(options: type, name: str) -> tuple[type, bool]:
    """The type of one value of a field, and whether it takes several."""
    hint = typing.get_type_hints(options)[name]
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in hint.__args__ if kind is not types.NoneType)
    several = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if several else hint
    if kind not in _KINDS:
        raise TypeError(f"{name}: {kind} is no type of an option")
    return kind, several


def _path(text: str) -> Path:
    """The path that was typed; nothing is none, though ``Path("")`` is the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: give one, or . for this folder")
    return Path(text)


def _add(parser: argparse._ArgumentGroup, declared: Declared) -> None:
    name, several, required = declared.flag, declared.several, declared.option.required
    text, metavar = declared.help.replace("%", "%%"), declared.metavar
    convert: Callable[[str], Value] = declared.option.parse or declared.kind
    if convert is Path:
        convert = _path
    default = declared.default
    if declared.kind is bool:
        parser.add_argument(name, action="store_true", default=default, help=text)
    elif several and declared.option.repeated:
        # argparse would append to a default, so that there is none here.
        parser.add_argument(name, action="append", type=convert, metavar=metavar, help=text)
    elif declared.option.positional:
        nargs = {(False, False): "?", (False, True): None, (True, False): "*", (True, True): "+"}[
            several, required
        ]
        parser.add_argument(
            name, nargs=nargs, type=convert, metavar=metavar, default=default, help=text
        )
    else:
        parser.add_argument(
            name,
            nargs="+" if several else None,
            type=convert,
            metavar=metavar,
            default=default,
            required=required,
            help=text,
        )
