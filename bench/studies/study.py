"""A study: a committed record, the claim it carries, and how it is measured and shown."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from bench.harness import frameworks, records
from bench.harness.records import Record
from twingrad.cli.options import option

# A block of a page: what stands behind ``<!-- from NAME: -->`` gives its Markdown.
Block: TypeAlias = Callable[[str], str]


# What a diagnosis of a pair is computed by: all of the library that it runs through.
DIAGNOSING = (
    "twingrad/*.py",
    "twingrad/casts/*.py",
    "twingrad/decoding/*.py",
    "twingrad/diagnosis/**/*.py",
    "twingrad/jax_models/*.py",
)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options of ``python -m bench.studies``."""

    names: tuple[str, ...] = option(
        (), metavar="NAME", positional=True, help="studies to run, or all; without any, list them"
    )
    json: Path | None = option(
        None, metavar="FILE", help="write the record of one study here, not to bench/results"
    )
    out: Path | None = option(
        None, metavar="FOLDER", help="write the records to this folder, not to bench/results"
    )
    peer: tuple[str, ...] = option(
        (), metavar="NAME=PATH", repeated=True, help="a checkout that a study of speed needs"
    )
    preset: str | None = option(None, metavar="PRESET", help="compile: the size of GPT-2")
    only: tuple[str, ...] = option((), metavar="BUG", help="diagnosis: plant these bugs alone")
    side: str | None = option(
        None, choices=frameworks.NAMES, help="diagnosis: plant bugs on this side alone"
    )
    most: int | None = option(None, metavar="N", help="diagnosis: stop after N bugs")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that writes a record.

    ``peer`` is the contestant of which only a user has a checkout. ``file`` says how the command
    is told where to write: an option, or an environment variable.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    peer: str | None = None
    file: str = "--json"

    def words(self, path: str) -> list[str]:
        """The arguments of Python that write the record to ``path``."""
        return [*self.arguments, *([self.file, path] if self.file.startswith("--") else [])]

    def variables(self, path: str) -> dict[str, str]:
        """The environment variables that it is given."""
        named = {} if self.file.startswith("--") else {self.file: path}
        return {**self.environment, **named}

    def shown(self, path: str) -> str:
        """The command as a person writes it."""
        variables = [f"{name}={value}" for name, value in self.variables(path).items()]
        words = self.words(path)
        called = ["twingrad", *words[2:]] if words[1] == "bench" else ["python", *words]
        peer = [f"--peer {self.peer}=PATH"] if self.peer else []
        return " ".join([*variables, *called, *peer])


@dataclass(frozen=True, kw_only=True)
class Study:
    """A record in ``bench/results`` with its claim, its sources and what makes it.

    ``sources`` are globs of the files that were measured, ``FILE::NAME`` for one definition.
    ``measure`` returns the record, ``lines`` what a terminal shows of it, and ``holds`` whether
    its bounds are kept; a study with a ``command`` has its own way for all of that. ``run`` is for
    a study that writes its record step by step. ``accepts`` names the options that are its own.
    """

    name: str
    claim: str
    sources: tuple[str, ...]
    measure: Callable[[StudyOptions], Record] | None = None
    lines: Callable[[Record], Iterator[str]] | None = None
    holds: Callable[[Record], bool] = lambda record: True
    run: Callable[[StudyOptions, Path], int] | None = None
    command: Command | None = None
    accepts: tuple[str, ...] = ()
    blocks: Mapping[str, Block] = field(default_factory=dict)

    @property
    def record(self) -> str:
        """The name of its record."""
        return f"{self.name}-cpu"


def twins(*names: str) -> tuple[str, ...]:
    """The files of these names on both sides; without any, all files of both."""
    return tuple(f"{side}_impl/{name}.py" for side in frameworks.NAMES for name in names or ("*",))


def shared(*names: str) -> tuple[str, ...]:
    """The files of these names that both sides share."""
    return tuple(f"shared/{name}.py" for name in names)


def of_record(markdown: Callable[[Record], str]) -> Block:
    """The block of a page that shows the record of the name it is called with."""
    return lambda name: markdown(records.load(name))
