"""Twin files cut into definitions and set side by side."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import Any, TypeVar

from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import Token

from bench.harness import records as harness_records
from bench.harness import terminal
from bench.harness.records import ROOT, Record
from bench.reporting.errors import Measured, measured_errors
from twingrad.outcome import Outcome


def twins(argument: str) -> str:
    """One definition of a twin file, both sides next to each other."""
    file, _, name = argument.partition("::")
    cells = []
    for side in ("torch_impl", "jax_impl"):
        source = (ROOT / side / file).read_text()
        node = next(n for n in ast.parse(source).body if getattr(n, "name", "") == name)
        code = ast.get_source_segment(source, node)
        cells.append(f"<td>\n\n```python\n# {side}/{file}\n{code}\n```\n\n</td>")
    head = "<tr><th>PyTorch</th><th>JAX with Flax NNX</th></tr>"
    return f"<table>\n{head}\n<tr>\n" + "\n".join(cells) + "\n</tr>\n</table>"


# In the order in which they are read.
ROOMS = (
    "tensors",
    "sigmoid_bce",
    "simple_net",
    "gpt2",
    "loss",
    "optim",
    "train",
    "generate",
    "dropout",
    "params",
    "trace",
    "runtime",
)
OPEN = "gpt2"
# What the frameworks' own words for the same method are.
SAME = {"__call__": "forward"}
# Classes of colour in the code; the first that fits.
_COLOURS = (
    (Token.Name.Builtin.Pseudo, ""),
    (Token.Name.Builtin, "b"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Decorator, "f"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "n"),
    (Token.Comment, "c"),
)
_HEAD = "imports"

T = TypeVar("T")


# The twins side by side.


@dataclass(frozen=True)
class Line:
    """A line of code in coloured pieces."""

    pieces: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The line as it stands in the file."""
        return "".join(text for _, text in self.pieces)

    @property
    def opening(self) -> str:
        """Its first name, with what it is an attribute of."""
        found = re.search(r"[\w.]+", self.text)
        return found[0] if found else self.text


@dataclass(frozen=True)
class Unit:
    """A named part of a source: the imports, a function, a class down to its methods, a method."""

    name: str
    lines: list[Line]


@dataclass(frozen=True)
class Part:
    """A unit on both sides, line by line; a side that has none is empty."""

    name: str
    rows: list[tuple[Line | None, Line | None]]

    def code(self, side: int) -> Markup:
        """One side, marked where its twin has another line or none; padded to keep step."""
        sides = ((row[side], row[1 - side]) for row in self.rows)
        return Markup("").join(_line(ours, theirs) for ours, theirs in sides)

    def has(self, side: int) -> bool:
        """Whether there is anything on that side."""
        return any(row[side] for row in self.rows)


@dataclass(frozen=True)
class Definition:
    """Parts of one name, and what was measured there."""

    name: str
    parts: list[Part] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    timed: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Room:
    """A file that both sides have, definition by definition."""

    name: str
    definitions: list[Definition]
    open: bool

    def _count(self, counts: Callable[[Line | None, Line | None], bool]) -> int:
        rows = (row for one in self.definitions for part in one.parts for row in part.rows)
        return sum(counts(ours, theirs) for ours, theirs in rows)

    @property
    def same(self) -> int:
        """Lines that both sides share, blank ones aside."""
        return self._count(lambda ours, theirs: bool(ours and ours.text and ours == theirs))

    @property
    def differing(self) -> tuple[int, int]:
        """Lines of either side that its twin has not, blank ones aside."""
        torch = self._count(lambda ours, theirs: bool(ours and ours.text and ours != theirs))
        jax = self._count(lambda ours, theirs: bool(theirs and theirs.text and ours != theirs))
        return torch, jax


def rooms(found: list[Outcome], times: Record | None = None) -> list[Room]:
    """Every file that both sides have, in reading order."""
    folders = [harness_records.ROOT / f"{name}_impl" for name in terminal.NAMES]
    stems = set.intersection(*({path.stem for path in folder.glob("*.py")} for folder in folders))
    order = [name for name in ROOMS if name in stems]
    order += sorted(stems - set(ROOMS) - {"__init__"})
    found_rooms = []
    for name in order:
        torch, jax = ((f / f"{name}.py").read_text(encoding="utf-8") for f in folders)
        timed = [row for row in times["rows"] if row["room"] == name] if times else []
        found_rooms.append(room(name, torch, jax, found, timed))
    return found_rooms


def room(
    name: str,
    torch: str,
    jax: str,
    found: list[Outcome],
    times: Sequence[dict[str, Any]] = (),
) -> Room:
    """Two sources in step, with what was measured beside each definition."""
    definitions: dict[str, Definition] = {}
    for part in parts(torch, jax):
        top = part.name.partition(".")[0]
        definitions.setdefault(top, Definition(top)).parts.append(part)
    for top, measured in measured_errors(found, name).items():
        if top in definitions:
            definitions[top].measured.extend(measured)
    for row in times:
        if row["definition"] in definitions:
            definitions[row["definition"]].timed.append(row)
    return Room(f"{name}.py", list(definitions.values()), open=name == OPEN)


def parts(torch: str, jax: str) -> list[Part]:
    """Units of one name together, any other one alone, in the order of the files."""
    found = []
    for ours, theirs in in_step(units(torch), units(jax), (lambda unit: unit.name,)):
        if ours and theirs and ours.name == theirs.name:
            found.append(_part(ours.name, ours.lines, theirs.lines))
            continue
        if ours:
            found.append(_part(ours.name, ours.lines, []))
        if theirs:
            found.append(_part(theirs.name, [], theirs.lines))
    return found


def _part(name: str, ours: list[Line], theirs: list[Line]) -> Part:
    return Part(name, in_step(ours, theirs, (lambda line: line.text, lambda line: line.opening)))


def in_step(
    ours: Sequence[T], theirs: Sequence[T], alike: Sequence[Callable[[T], str]]
) -> list[tuple[T | None, T | None]]:
    """Both side by side: paired by the first of ``alike``, then by the next; the rest in turn."""
    if not alike or not ours or not theirs:
        return list(zip_longest(ours, theirs))
    own, twin = [alike[0](one) for one in ours], [alike[0](one) for one in theirs]
    rows: list[tuple[T | None, T | None]] = []
    for tag, a, b, c, d in SequenceMatcher(None, own, twin, autojunk=False).get_opcodes():
        inner = in_step(ours[a:b], theirs[c:d], () if tag == "equal" else alike[1:])
        rows += inner
    return rows


def units(source: str) -> list[Unit]:
    """All of ``source`` in units, blank lines between them left out."""
    lines = colour(source)
    starts = [(0, _HEAD), *_starts(source, lines)]
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    found = []
    for (start, name), end in zip(starts, ends, strict=True):
        while end > start and not lines[end - 1].text.strip():
            end -= 1
        if end > start:
            found.append(Unit(name, lines[start:end]))
    return found


def _starts(source: str, lines: list[Line]) -> Iterator[tuple[int, str]]:
    """Where each unit behind the imports begins, comments above it included, and its name."""
    for node in ast.parse(source).body:
        documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if documents or isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        yield _start(node, lines), _name(node)
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(part, ast.FunctionDef):
                yield _start(part, lines), f"{_name(node)}.{SAME.get(part.name, part.name)}"


def _start(node: ast.stmt, lines: list[Line]) -> int:
    decorated = getattr(node, "decorator_list", [])
    start = min(part.lineno for part in [node, *decorated]) - 1
    while start and lines[start - 1].text.lstrip().startswith("#"):
        start -= 1
    return start


def _name(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[target, *_]) | ast.AnnAssign(target=target):
            return ast.unparse(target)
        case ast.Expr(value=ast.Call(func=function)):
            return ast.unparse(function)
    return ast.unparse(node).partition("\n")[0]


def colour(source: str) -> list[Line]:
    """The lines of ``source``, each piece with its class of colour."""
    lines: list[Line] = []
    pieces: list[tuple[str, str]] = []
    for kind, text in PythonLexer(stripnl=False).get_tokens(source):
        shade = next((name for token, name in _COLOURS if kind in token), "")
        first, *others = text.split("\n")
        pieces += [(shade, first)] if first else []
        for part in others:
            lines.append(Line(tuple(pieces)))
            pieces = [(shade, part)] if part else []
    return lines


def _line(ours: Line | None, theirs: Line | None) -> Markup:
    if ours is None:
        return Markup('<span class="l pad">\n</span>')
    apart = ours != theirs and bool(ours.text)
    wrong = _apart(ours, theirs) if apart and theirs else set()
    runs = groupby(enumerate(ours.pieces), lambda piece: (piece[1][0], piece[0] in wrong))
    html = Markup("").join(
        _run(shade, "".join(text for _, (_, text) in pieces), marked)
        for (shade, marked), pieces in runs
    )
    whole = '<mark class="l">{}\n</mark>' if apart else '<span class="l">{}\n</span>'
    return Markup(whole).format(html)


def _run(shade: str, text: str, marked: bool) -> Markup:
    html = Markup('<span class="{}">{}</span>').format(shade, text) if shade else escape(text)
    return Markup("<b>{}</b>").format(html) if marked else html


def _apart(ours: Line, theirs: Line) -> set[int]:
    """Pieces of a line that its twin has not; none where the lines have little in common."""
    own, twin = ([text for _, text in line.pieces] for line in (ours, theirs))
    matcher = SequenceMatcher(None, own, twin, autojunk=False)
    if matcher.ratio() <= 0.5:
        return set()
    return {i for tag, a, b, *_ in matcher.get_opcodes() if tag != "equal" for i in range(a, b)}
