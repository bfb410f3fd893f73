"""Twin files cut into definitions and set side by side."""

import ast
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import TypeVar

from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import Token

from bench.harness import records, terminal
from bench.harness.records import ROOT, Json, Record
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


# Files of the twins, in the order in which they are read.
READING_ORDER = (
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
    "graph",
    "runtime",
)
OPEN_AT_FIRST = "gpt2"
# A method that the frameworks call otherwise, by its name in PyTorch.
SAME_METHODS = {"__call__": "forward"}
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


@dataclass(frozen=True)
class Line:
    """A line of code in coloured pieces."""

    pieces: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The line as in the file."""
        return "".join(text for _, text in self.pieces)

    @property
    def opening(self) -> str:
        """The first name of the line, dotted names in whole."""
        name = re.search(r"[\w.]+", self.text)
        return name[0] if name else self.text


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
        """One side, marked where the other has another line or none; padded to keep step."""
        rows = ((row[side], row[1 - side]) for row in self.rows)
        return Markup("").join(_line(line, other) for line, other in rows)

    def has(self, side: int) -> bool:
        """Whether there is anything on that side."""
        return any(row[side] for row in self.rows)


@dataclass(frozen=True)
class Definition:
    """Parts of one name, with their measured errors and times."""

    name: str
    parts: list[Part] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    timed: list[dict[str, Json]] = field(default_factory=list)


@dataclass(frozen=True)
class TwinFile:
    """A file that both sides have, definition by definition."""

    name: str
    definitions: list[Definition]
    open: bool

    @property
    def rows(self) -> list[tuple[Line | None, Line | None]]:
        """All lines of both sides, next to each other."""
        return [row for each in self.definitions for part in each.parts for row in part.rows]

    @property
    def same(self) -> int:
        """The number of lines that both sides share, blank ones aside."""
        return sum(bool(left and left.text and left == right) for left, right in self.rows)

    @property
    def differing(self) -> tuple[int, int]:
        """The number of lines of either side that the other lacks, blank ones aside."""
        torch_lines = sum(bool(left and left.text and left != right) for left, right in self.rows)
        jax_lines = sum(bool(right and right.text and left != right) for left, right in self.rows)
        return torch_lines, jax_lines


def twin_files(outcomes: list[Outcome], times: Record | None = None) -> list[TwinFile]:
    """Every file that both sides have, in reading order."""
    folders = [records.ROOT / f"{name}_impl" for name in terminal.NAMES]
    stems = set.intersection(*({path.stem for path in folder.glob("*.py")} for folder in folders))
    order = [name for name in READING_ORDER if name in stems]
    order += sorted(stems - set(READING_ORDER) - {"__init__"})
    files = []
    for name in order:
        sources = [(folder / f"{name}.py").read_text(encoding="utf-8") for folder in folders]
        timed = [row for row in times["rows"] if row["room"] == name] if times else []
        files.append(twin_file(name, (sources[0], sources[1]), outcomes, timed))
    return files


def twin_file(
    name: str,
    sources: tuple[str, str],
    outcomes: list[Outcome],
    times: Sequence[dict[str, Json]] = (),
) -> TwinFile:
    """Two sources in step, with the measurements of each definition."""
    definitions: dict[str, Definition] = {}
    for part in parts(*sources):
        top = part.name.partition(".")[0]
        definitions.setdefault(top, Definition(top)).parts.append(part)
    for top, measured in measured_errors(outcomes, name).items():
        if top in definitions:
            definitions[top].measured.extend(measured)
    for row in times:
        if row["definition"] in definitions:
            definitions[row["definition"]].timed.append(row)
    return TwinFile(f"{name}.py", list(definitions.values()), open=name == OPEN_AT_FIRST)


def parts(torch_source: str, jax_source: str) -> list[Part]:
    """Units of one name together, any other one alone, in the order of the files."""
    paired = []
    by_name = (lambda unit: unit.name,)
    for left, right in in_step(units(torch_source), units(jax_source), by_name):
        if left and right and left.name == right.name:
            paired.append(_part(left.name, left.lines, right.lines))
            continue
        if left:
            paired.append(_part(left.name, left.lines, []))
        if right:
            paired.append(_part(right.name, [], right.lines))
    return paired


def _part(name: str, left: list[Line], right: list[Line]) -> Part:
    return Part(name, in_step(left, right, (lambda line: line.text, lambda line: line.opening)))


def in_step(
    left: Sequence[T], right: Sequence[T], alike: Sequence[Callable[[T], str]]
) -> list[tuple[T | None, T | None]]:
    """Both side by side: paired by the first of ``alike``, then by the next; the rest in turn."""
    if not alike or not left or not right:
        return list(zip_longest(left, right))
    left_keys, right_keys = ([alike[0](item) for item in items] for items in (left, right))
    rows: list[tuple[T | None, T | None]] = []
    for tag, a, b, c, d in SequenceMatcher(
        None, left_keys, right_keys, autojunk=False
    ).get_opcodes():
        inner = in_step(left[a:b], right[c:d], () if tag == "equal" else alike[1:])
        rows += inner
    return rows


def units(source: str) -> list[Unit]:
    """All of ``source`` in units, blank lines between them left out."""
    lines = list(colour(source))
    starts = [(0, _HEAD), *_starts(source, lines)]
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    found: list[Unit] = []
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
                yield _start(part, lines), f"{_name(node)}.{SAME_METHODS.get(part.name, part.name)}"


def _start(node: ast.stmt, lines: list[Line]) -> int:
    decorated = getattr(node, "decorator_list", [])
    start: int = min(part.lineno for part in [node, *decorated]) - 1
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


@functools.cache
def colour(source: str) -> tuple[Line, ...]:
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
    return tuple(lines)


def coloured(source: str) -> Markup:
    """``source`` in colours, without a mark."""
    return Markup("").join(_line(line, line) for line in colour(source.rstrip("\n")))


def _line(line: Line | None, other: Line | None) -> Markup:
    if line is None:
        return Markup('<span class="l pad">\n</span>')
    apart = line != other and bool(line.text)
    wrong = _apart(line, other) if apart and other else set()
    runs = groupby(enumerate(line.pieces), lambda piece: (piece[1][0], piece[0] in wrong))
    html = Markup("").join(
        _run(shade, "".join(text for _, (_, text) in pieces), marked)
        for (shade, marked), pieces in runs
    )
    whole = '<mark class="l">{}\n</mark>' if apart else '<span class="l">{}\n</span>'
    return Markup(whole).format(html)


def _run(shade: str, text: str, marked: bool) -> Markup:
    html = Markup('<span class="{}">{}</span>').format(shade, text) if shade else escape(text)
    return Markup("<b>{}</b>").format(html) if marked else html


def _apart(line: Line, other: Line) -> set[int]:
    """Pieces of a line that the other lacks; none where the lines have little in common."""
    texts, others = ([text for _, text in each.pieces] for each in (line, other))
    matcher = SequenceMatcher(None, texts, others, autojunk=False)
    if matcher.ratio() <= 0.5:
        return set()
    return {i for tag, a, b, *_ in matcher.get_opcodes() if tag != "equal" for i in range(a, b)}
