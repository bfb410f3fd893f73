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
import types
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = str | int | float | bool | Path | tuple[str, ...] | None
_KINDS: tuple[type, ...] = (str, int, float, bool, Path)
_KEY = "option"
T = TypeVar("T", bound="DataclassInstance")
D = TypeVar("D")


Adds = argparse.ArgumentParser | argparse._ArgumentGroup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """How one field is written on the command line.

    ``choices`` are the allowed values. A ``positional`` has no dashes before its name.
    Of several values, ``repeated`` has the option written once for each, else they follow it. A
    ``required`` option has to be given, whatever its field's default is.
    ``show_default`` says the default at the end of the help. ``otherwise`` is the value in effect
    where the option is left out and its field is None; the help says it as the default.
    """

    help: str
    metavar: str | None = None
    choices: Collection[str] = ()
    positional: bool = False
    repeated: bool = False
    required: bool = False
    show_default: bool = True
    parse: Callable[[str], Value] | None = None
    otherwise: Value = None


def option(
    default: D,
    *,
    help: str,
    metavar: str | None = None,
    choices: Collection[str] = (),
    positional: bool = False,
    repeated: bool = False,
    required: bool = False,
    show_default: bool = True,
    parse: Callable[[str], Value] | None = None,
    otherwise: Value = None,
) -> D:
    """A dataclass field with this default that is also an option of the command line.

    ``parse`` makes the value of the text where the field's own type cannot; its ``ValueError`` is
    the sentence that the user reads.
    """
    declared = Option(
        help=help,
        metavar=metavar,
        choices=choices,
        positional=positional,
        repeated=repeated,
        required=required,
        show_default=show_default,
        parse=parse,
        otherwise=otherwise,
    )
    return dataclasses.field(default=default, metadata={_KEY: declared})


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
        )

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError`` with the message and where to read on."""
        raise ValueError(f"{message}; see {self.prog} --help")


def add_options(parser: Adds, options: type, only: Collection[str] | None = None) -> None:
    """Add to ``parser`` every option that the dataclass ``options`` declares.

    ``only`` names the fields to take, where a command shares some of another's.
    """
    for field, declared in _declared(options):
        if only is None or field.name in only:
            _add(parser, field, declared, _type(options, field.name))


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
            choose(field.name.replace("_", " "), value, declared.choices)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(options(), **values)


def choose(kind: str, value: str | Sequence[str], choices: Collection[str]) -> None:
    """Raise ``ValueError`` that names the choices if ``value``, or one of it, is none of them."""
    for choice in (value,) if isinstance(value, str) else value:
        if choice not in choices:
            raise ValueError(f"unknown {kind} {choice!r}: choose from {', '.join(choices)}")


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


def _add(
    parser: Adds, field: "dataclasses.Field[Value]", declared: Option, kind: tuple[type, bool]
) -> None:
    name = field.name if declared.positional else "--" + field.name.replace("_", "-")
    value, several = kind
    text, default, metavar = _help(field.default, declared), field.default, declared.metavar
    convert: Callable[[str], Value] = declared.parse or value
    if value is bool:
        parser.add_argument(name, action="store_true", default=default, help=text)
    elif several and declared.repeated:
        # argparse would append to a default, so that there is none here.
        parser.add_argument(name, action="append", type=convert, metavar=metavar, help=text)
    elif declared.positional:
        nargs = {(False, False): "?", (False, True): None, (True, False): "*", (True, True): "+"}[
            several, declared.required
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
            required=declared.required,
            help=text,
        )


def _help(default: object, declared: Option) -> str:
    text = declared.help
    if declared.choices:
        text += f": {', '.join(declared.choices)}" if text else ", ".join(declared.choices)
    default = declared.otherwise if default is None else default
    missing = declared.required or default is None or default is False or default == ()
    if declared.show_default and not missing:
        shown = " ".join(default) if isinstance(default, tuple) else default
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        text += f"; default {shown}"
    return text.replace("%", "%%")
