"""A mutant: an edit of one source file of the twins, and how it is planted."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from itertools import groupby
from pathlib import Path
from types import ModuleType

from bench.harness import frameworks
from bench.harness.frameworks import NAMES, Framework
from bench.harness.records import ROOT

# The files of bugs, by what they are bugs of, in the order in which they are planted.
FAMILIES = (
    "block",
    "attention",
    "parameters",
    "embedding_and_head",
    "loss",
    "precision",
    "optimizer",
    "training_loop",
    "micro_batches",
    "dropout",
    "checkpoint",
)


class StaleEdit(Exception):
    """An edit that no longer fits the source that it changes."""


@dataclass(frozen=True)
class Edit:
    """``old`` becomes ``new``; ``old`` must occur exactly ``times`` times.

    Lines after the first are indented as the line of the file is in which the edit is made.
    """

    old: str
    new: str
    times: int = 1

    def made_in(self, text: str) -> str:
        """``text`` with the edit made everywhere; raises ``StaleEdit`` where it does not fit."""
        for start, old, new in reversed(self.places(text)):
            text = text[:start] + new + text[start + len(old) :]
        return text

    def places(self, text: str) -> list[tuple[int, str, str]]:
        """Each place of ``old`` in ``text``: its start, and ``old`` and ``new`` indented alike."""
        places = []
        for match in re.finditer(re.escape(self.old.partition("\n")[0]), text):
            line = text[text.rfind("\n", 0, match.start()) + 1 :]
            indent = "\n" + " " * (len(line) - len(line.lstrip(" ")))
            old = self.old.replace("\n", indent)
            if text.startswith(old, match.start()):
                places.append((match.start(), old, self.new.replace("\n", indent)))
        if len(places) != self.times:
            raise StaleEdit(f"{self.old!r} occurs {len(places)} times, expected {self.times}")
        return places


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One bug, as edits of ``file`` in each framework's half that can have it.

    ``program`` is the one in ``PROGRAMS`` that it is judged on.
    """

    name: str
    about: str
    file: str
    program: str = "gpt2"
    edits: Mapping[str, tuple[Edit, ...]]


def source(mutant: Mutant, framework: str) -> str:
    """The text of the mutant's file in ``framework``'s half, without the bug."""
    return _file(mutant, framework).read_text(encoding="utf-8")


def edited(mutant: Mutant, framework: str) -> str:
    """The text of the mutant's file in ``framework``'s half with its edits made.

    Raises ``StaleEdit``, naming the mutant, where an edit does not fit the file exactly.
    """
    text = source(mutant, framework)
    for edit in mutant.edits[framework]:
        try:
            text = edit.made_in(text)
        except StaleEdit as error:
            where = f"{_package(framework)}/{mutant.file}"
            raise StaleEdit(f"mutant {mutant.name}, {where}: {error}") from None
    return text


def _package(framework: str) -> str:
    return f"{framework}_impl"


def _file(mutant: Mutant, framework: str) -> Path:
    return ROOT / _package(framework) / mutant.file


@contextmanager
def planted(mutant: Mutant, framework: str) -> Iterator[Framework]:
    """Load the half of ``framework`` a second time, one module of it from the edited text.

    The frameworks themselves stay as they are, and so do the modules in the end.
    """
    package = _package(framework)
    name = f"{package}.{mutant.file.removesuffix('.py')}"
    finder = _Finder(name, edited(mutant, framework), str(_file(mutant, framework)))
    originals = _taken_out(package)
    sys.meta_path.insert(0, finder)
    try:
        yield frameworks.one(framework)
    finally:
        sys.meta_path.remove(finder)
        _taken_out(package)
        sys.modules.update(originals)


def _taken_out(package: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Finder:
    """Find one module, and load it from ``text``."""

    def __init__(self, name: str, text: str, origin: str):
        self.name, self.text, self.origin = name, text, origin

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
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
    """The mutants that ``text`` describes.

    One block a bug: its name, its file and what it does; then, for one framework or for both, the
    lines that go and those that come. A bug is judged on a small GPT-2, or on the program that
    follows ``of``. Comments are blocks that start with #.
    """
    blocks = (block for block in text.strip().split("\n\n") if not block.startswith("#"))
    return tuple(_parsed(block.splitlines()) for block in blocks)


def _parsed(lines: list[str]) -> Mutant:
    head = _HEAD.fullmatch(lines[0])
    if head is None:
        raise ValueError(f"not the head of a mutant: {lines[0]!r}")
    edits: dict[str, list[Edit]] = {}
    for sign, run in groupby(lines[1:], key=lambda line: line[:1] if line[:1] in "-+" else ""):
        group = list(run)
        text = "\n".join(line[2:] for line in group)
        if not sign:
            named_frameworks = NAMES if group == ["both"] else group
            edits |= {framework: [] for framework in named_frameworks}
        for framework in named_frameworks:
            if sign == "-":
                edits[framework].append(Edit(text, ""))
            elif sign == "+":
                edits[framework][-1] = replace(edits[framework][-1], new=text)
    fields = {key: value for key, value in head.groupdict().items() if value is not None}
    return Mutant(**fields, edits={framework: tuple(made) for framework, made in edits.items()})


# Every module's call is kept, so that no bug is given away by a tensor that is missing. JAX
# computes attention by the written-out form in float64, and both frameworks do under matched
# dropout, so bugs are planted there.
MUTANTS = tuple(
    mutant
    for family in FAMILIES
    for mutant in parse((Path(__file__).parent / "bugs" / f"{family}.bugs").read_text("utf-8"))
)
