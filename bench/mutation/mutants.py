"""A mutant: an edit of one source file of the twins, and how it is planted."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.harness import frameworks
from bench.harness.frameworks import NAMES, Framework
from bench.mutation.bugs import BUGS


@dataclass(frozen=True)
class Edit:
    """``old`` becomes ``new``; ``old`` must occur exactly ``times`` times.

    Lines after the first are indented as the line of the file is in which the edit is made.
    """

    old: str
    new: str
    times: int = 1

    def made_in(self, text: str) -> str:
        """``text`` with the edit made everywhere; ``AssertionError`` where it does not fit."""
        for start, old, new in reversed(self.found_in(text)):
            text = text[:start] + new + text[start + len(old) :]
        return text

    def found_in(self, text: str) -> list[tuple[int, str, str]]:
        """Where ``text`` has ``old``, which becomes ``new``, both indented as they are there."""
        places = []
        for found in re.finditer(re.escape(self.old.partition("\n")[0]), text):
            line = text[text.rfind("\n", 0, found.start()) + 1 :]
            indent = "\n" + " " * (len(line) - len(line.lstrip(" ")))
            old = self.old.replace("\n", indent)
            if text.startswith(old, found.start()):
                places.append((found.start(), old, self.new.replace("\n", indent)))
        assert len(places) == self.times, (
            f"{self.old!r} occurs {len(places)} times, expected {self.times}"
        )
        return places


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One bug, as edits of the file of that name on each side where the framework allows it.

    ``program`` is the one in ``PROGRAMS`` that it is judged on.
    """

    name: str
    about: str
    file: str
    program: str = "gpt2"
    edits: Mapping[str, tuple[Edit, ...]]


def source(mutant: Mutant, side: str) -> str:
    """The text of the mutant's file on ``side`` as it stands."""
    return _file(mutant, side).read_text(encoding="utf-8")


def edited(mutant: Mutant, side: str) -> str:
    """The text of the mutant's file on ``side`` with its edits made.

    ``AssertionError``, naming the mutant, where an edit does not fit the file exactly.
    """
    text = source(mutant, side)
    for edit in mutant.edits[side]:
        try:
            text = edit.made_in(text)
        except AssertionError as error:
            where = f"{_package(side)}/{mutant.file}"
            raise AssertionError(f"mutant {mutant.name}, {where}: {error}") from None
    return text


def _package(side: str) -> str:
    return f"{side}_impl"


def _file(mutant: Mutant, side: str) -> Path:
    spec = importlib.util.find_spec(_package(side))
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name(mutant.file)


@contextmanager
def planted(mutant: Mutant, side: str) -> Iterator[Framework]:
    """Within, ``side`` is a second copy of its modules, one of them loaded from the edited text.

    The frameworks stay as they are; afterwards, so are the modules.
    """
    package = _package(side)
    name = f"{package}.{mutant.file.removesuffix('.py')}"
    finder = _Finder(name, edited(mutant, side), str(_file(mutant, side)))
    originals = _taken_out(package)
    sys.meta_path.insert(0, finder)
    try:
        yield frameworks.one(side)
    finally:
        sys.meta_path.remove(finder)
        _taken_out(package)
        sys.modules.update(originals)


def _taken_out(package: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Finder:
    """Finds one module, and loads it from the text given."""

    def __init__(self, name: str, text: str, origin: str):
        self.name, self.text, self.origin = name, text, origin

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_loader(name, self, origin=self.origin)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, f"{self.origin} (planted)", "exec"), module.__dict__)


_HEAD = re.compile(
    r"(?P<name>\S+) \((?P<file>\w+\.py)(?: of (?P<program>[\w-]+))?\): (?P<about>.+)"
)


def parse(text: str) -> tuple[Mutant, ...]:
    """Mutants out of ``text``, which is written as ``BUGS`` is; comments start with #."""
    blocks = (block for block in text.strip().split("\n\n") if not block.startswith("#"))
    return tuple(_parsed(block.splitlines()) for block in blocks)


def _parsed(lines: list[str]) -> Mutant:
    head = _HEAD.fullmatch(lines[0])
    assert head is not None, f"not the head of a mutant: {lines[0]!r}"
    edits: dict[str, list[Edit]] = {}
    for sign, run in groupby(lines[1:], key=lambda line: line[:1] if line[:1] in "-+" else ""):
        named = list(run)
        text = "\n".join(line[2:] for line in named)
        if not sign:
            sides = NAMES if named == ["both"] else named
            edits |= {side: [] for side in sides}
        for side in sides:
            if sign == "-":
                edits[side].append(Edit(text, ""))
            elif sign == "+":
                edits[side][-1] = replace(edits[side][-1], new=text)
    given = {key: value for key, value in head.groupdict().items() if value is not None}
    return Mutant(**given, edits={side: tuple(made) for side, made in edits.items()})


MUTANTS = parse(BUGS)
