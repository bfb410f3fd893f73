"""The report: one HTML page with the twins side by side and what was measured of them.

``make`` returns the page, ``write`` stores it. Code comes from the sources of both sides, figures
from the records in ``bench/results``; what is absent leaves its section out.
"""

import ast
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import Token

from bench import record, render, show, standing
from bench.compare import Gate, Outcome
from shared.numerics import UNIT_ROUNDOFF, Verdict
from shared.params import write_bytes

COMPARISON, TRAINING, MUTANTS, DEFAULTS, TIMES, DIAGNOSIS = (
    f"{name}-cpu"
    for name in ("compare", "training", "mutants", "defaults", "definitions", "diagnosis")
)
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
# Which definition computes the tensor of a name; the first that fits.
OWNERS = {
    "sigmoid_bce": ((r"loss$", "loss_fn"), (r"", "Neuron")),
    "simple_net": ((r"loss$", "loss_fn"), (r"", "SimpleNet")),
    "gpt2": (
        (r"loss$", "loss_fn"),
        (r"h\.\d+\.attn\b", "CausalSelfAttention"),
        (r"h\.\d+\.mlp\b", "MLP"),
        (r"h\.\d+\b", "Block"),
        (r"", "GPT2"),
    ),
}
# Workloads in the order in which they are shown.
WORKLOADS = ("train", "forward-backward", "forward", "decode", "overhead", "cold")
AXES = {"batch_size": "batch size", "length": "length in tokens", "n_layers": "layers"}
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
_SHADES = 10

T = TypeVar("T")


def make(comparison: dict[str, Any] | None = None) -> str:
    """The page; ``comparison`` is what ``compare --json`` writes, by default the record of it.

    Raises ``ValueError`` naming a record that is not what its command writes.
    """
    given = recorded(COMPARISON) if comparison is None else comparison
    training, mutants, diagnosis = map(recorded, (TRAINING, MUTANTS, DIAGNOSIS))
    times = recorded(TIMES)
    speeds = {p.stem: render.load(p.stem) for p in sorted(render.RESULTS.glob("speed-*.json"))}
    origin = f"{COMPARISON}.json" if comparison is None else "the comparison given"
    used = {origin: given}
    names = (TIMES, DEFAULTS, TRAINING, MUTANTS, DIAGNOSIS, *speeds)
    used |= {f"{name}.json": recorded(name) for name in names}
    sections: dict[str, Any] = {}
    with render.showing(origin):
        found = record.outcomes(given) if given else []
        sections |= {"summary": summary(given, found) if given else None}
        sections |= {"rooms": rooms(found, times), "times": times, "layers": layers(found)}
    with render.showing(DEFAULTS):
        sections["defaults"] = defaults()
    with render.showing(TRAINING):
        sections["training"] = trainings(training) if training else []
    with render.showing(MUTANTS):
        sections["planted"] = planted(mutants) if mutants else None
    with render.showing(DIAGNOSIS):
        sections["diagnosed"] = diagnosed(diagnosis) if diagnosis else None
    with render.showing("a record of the benchmark"):
        sections["speed"] = speed(speeds)
    with render.showing("a record"):
        return _page(
            origin=origin,
            records={
                "defaults": DEFAULTS,
                "training": TRAINING,
                "planted": MUTANTS,
                "times": TIMES,
                "diagnosed": DIAGNOSIS,
            },
            environments={name: found["environment"] for name, found in used.items() if found},
            **sections,
        )


def write(path: Path, comparison: dict[str, Any] | None = None) -> None:
    """Write the page whole or not at all; ``ValueError`` says why it cannot be written."""
    write_bytes(path, make(comparison).encode())


def _page(**content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"units": show.units, "seconds": standing.seconds}
    environment.filters |= {"ticks": ticks, "breaks": breaks, "slug": slug, "power": power}
    environment.globals |= {"NAMES": show.NAMES, "RULES": show.RULES, "SHADES": _SHADES}
    return environment.get_template("report.html").render(content)


def recorded(name: str) -> dict[str, Any] | None:
    """The committed record ``name``, or none."""
    return render.load(name) if (render.RESULTS / f"{name}.json").exists() else None


def defaults() -> list[dict[str, str]]:
    """Rows of the record of defaults that differ; none where there is no such record."""
    found = recorded(DEFAULTS)
    return found["rows"] if found else []


# Words.


def slug(text: str) -> str:
    """``text`` as an identifier of the page."""
    return re.sub(r"[^\w]+", "-", text).strip("-")


def breaks(text: str) -> Markup:
    """A dotted name that may be broken behind its dots."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[.:_])(?=\w)", text))


def ticks(text: str) -> Markup:
    """``text`` with what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    coded = (Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))
    return Markup("").join(coded)


def power(dtype: str) -> Markup:
    """The unit roundoff of ``dtype`` as a power of two."""
    return Markup("2<sup>{}</sup>").format(f"{math.log2(UNIT_ROUNDOFF[dtype]):.0f}")


# The verdict.


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a comparison came to: every gate, and the tensor nearest to its limit."""

    ok: bool
    programs: int
    tensors: int
    seconds: float
    gates: list[tuple[Outcome, Gate]]
    diverging: list[Outcome]

    @property
    def worst(self) -> tuple[Outcome, Gate]:
        """The gate, with its outcome, whose worst tensor comes nearest to its limit."""
        return max(self.gates, key=lambda pair: (not pair[1].ok, pair[1].worst.factor))

    @property
    def by_program(self) -> dict[tuple[str, str | None], list[tuple[Outcome, Gate]]]:
        """Gates of each program and preset, in the order of the comparison."""
        found: dict[tuple[str, str | None], list[tuple[Outcome, Gate]]] = {}
        for outcome, gate in self.gates:
            found.setdefault((outcome.program, outcome.preset), []).append((outcome, gate))
        return found

    @property
    def held(self) -> int:
        """How many gates hold."""
        return sum(gate.ok for _, gate in self.gates)

    @property
    def dtypes(self) -> list[str]:
        """Dtypes that were judged and have a unit, widest first."""
        seen = {outcome.dtype for outcome, _ in self.gates}
        return [dtype for dtype in UNIT_ROUNDOFF if dtype in seen]


def summary(report: dict[str, Any], found: list[Outcome]) -> Summary | None:
    """What the outcomes of ``report`` came to; none where nothing was judged."""
    gates = [(outcome, gate) for outcome in found for gate in outcome.gates if gate.tensors]
    if not gates:
        return None
    return Summary(
        ok=report["ok"] and all(outcome.ok for outcome in found),
        programs=len({(outcome.program, outcome.preset) for outcome in found}),
        tensors=sum(len(gate.tensors) for _, gate in gates),
        seconds=report.get("seconds", sum(outcome.seconds for outcome in found)),
        gates=gates,
        diverging=[outcome for outcome in found if not outcome.ok],
    )


def _passes(found: list[Outcome], program: str) -> list[tuple[Outcome, Gate]]:
    """Forward and backward in every dtype, at the size of ``program`` with the most tensors."""
    own = [
        (outcome, gate)
        for outcome in found
        for gate in outcome.gates
        if outcome.program == program and gate.name == outcome.dtype
    ]
    most = max((len(gate.tensors) for _, gate in own), default=0)
    largest = {outcome.preset for outcome, gate in own if len(gate.tensors) == most}
    return [(outcome, gate) for outcome, gate in own if outcome.preset in largest]


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
class Measured:
    """The largest error of one kind among a definition's tensors, in one dtype."""

    outcome: Outcome
    kind: str
    tensor: Verdict


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


def rooms(found: list[Outcome], times: dict[str, Any] | None = None) -> list[Room]:
    """Every file that both sides have, in reading order."""
    folders = [record.ROOT / f"{name}_impl" for name in show.NAMES]
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
    for top, measured in _measured(found, name).items():
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


def _measured(found: list[Outcome], name: str) -> dict[str, list[Measured]]:
    """By definition, the largest error of each kind in each dtype."""
    largest: dict[tuple[str, str, str], Measured] = {}
    for outcome, gate in _passes(found, name.replace("_", "-")):
        for tensor in gate.tensors:
            owners = OWNERS.get(name, ())
            owner = next((one for pattern, one in owners if re.match(pattern, tensor.name)), None)
            if owner is None:
                continue
            key = (owner, outcome.dtype, tensor.kind)
            if key not in largest or _error(tensor) > _error(largest[key].tensor):
                largest[key] = Measured(outcome, tensor.kind, tensor)
    by_owner: dict[str, list[Measured]] = {}
    for (owner, *_), measured in largest.items():
        by_owner.setdefault(owner, []).append(measured)
    return by_owner


def _error(tensor: Verdict) -> float:
    return max(tensor.torch_error_u, tensor.jax_error_u)


# Errors layer by layer.


@dataclass(frozen=True)
class Cell:
    """A tensor of one layer, and how dark each side's error is."""

    tensor: Verdict
    shades: dict[str, int]


@dataclass(frozen=True)
class Heat:
    """Errors of one kind: a row a layer, a column a part of the block."""

    kind: str
    columns: list[str]
    rows: dict[int, list[Cell | None]]
    worst: Verdict


@dataclass(frozen=True)
class Layers:
    """Errors of a GPT-2 in float32, within its layers and outside them."""

    outcome: Outcome
    heats: list[Heat]
    outside: list[Verdict]
    largest: float


def layers(found: list[Outcome]) -> Layers | None:
    """The map of the largest GPT-2 that was judged in float32."""
    own = [pair for pair in _passes(found, "gpt2") if pair[0].dtype == "float32"]
    if not own:
        return None
    outcome, gate = own[-1]
    inside = [tensor for tensor in gate.tensors if _place(tensor)]
    if not inside:
        return None
    largest = max(map(_error, inside))
    kinds = dict.fromkeys(tensor.kind for tensor in inside)
    heats = [_heat(kind, [t for t in inside if t.kind == kind], largest) for kind in kinds]
    outside = [tensor for tensor in gate.tensors if not _place(tensor)]
    return Layers(outcome, heats, outside, largest)


def _place(tensor: Verdict) -> tuple[int, str] | None:
    """Layer and part that a tensor belongs to."""
    found = re.fullmatch(r"h\.(\d+)(?:\.(.+)|(:.+)?)", tensor.name)
    return (int(found[1]), found[2] or f"block{found[3] or ''}") if found else None


def _heat(kind: str, tensors: list[Verdict], largest: float) -> Heat:
    places = {place: tensor for tensor in tensors if (place := _place(tensor))}
    # Gradients at outputs are recorded last layer first; parts come as the forward pass has them.
    first = min(layer for layer, _ in places)
    columns = list(dict.fromkeys(part for layer, part in places if layer == first))
    if kind == "gradient":
        outputs = [part for part in columns if part.endswith(":output")]
        columns = outputs[::-1] + [part for part in columns if part not in outputs]
    numbers = sorted({layer for layer, _ in places})
    rows = {n: [_cell(places.get((n, part)), largest) for part in columns] for n in numbers}
    return Heat(kind, columns, rows, max(tensors, key=_error))


def _cell(tensor: Verdict | None, largest: float) -> Cell | None:
    if tensor is None:
        return None
    errors = {"torch": tensor.torch_error_u, "jax": tensor.jax_error_u}
    shade = {side: round(_SHADES * error / (largest or 1)) for side, error in errors.items()}
    return Cell(tensor, shade)


# Plots.


@dataclass(frozen=True)
class Scale:
    """Values onto a length, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Where ``value`` stands."""
        low, high, own = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return round(self.start + (own - low) / (high - low) * (self.end - self.start), 1)


def even(
    values: Sequence[float], start: float, end: float, zero: bool = False, steps: int = 5
) -> Scale:
    """A scale with round ends about ``values``, and about zero where asked for."""
    low, high = min(values), max(values)
    low = min(low, 0.0) if zero else low
    rough = (high - low or abs(high) or 1.0) / steps
    size = 10 ** math.floor(math.log10(rough))
    step = next(n * size for n in (1, 2, 5, 10) if n * size >= rough * 0.999)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    marks = tuple(n * step for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks)


def decades(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale from one power of ten to another about ``values``."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    marks = tuple(10.0**n for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks, log=True)


@dataclass(frozen=True)
class Curve:
    """Points of one framework, as a line or as dots."""

    label: str
    side: str
    style: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves over two scales, with named levels."""

    title: str
    text: str
    labels: tuple[str, str]
    x: Scale
    y: Scale
    curves: list[Curve]
    levels: dict[str, float] = field(default_factory=dict)
    tick: Callable[[float], str] = "{:g}".format

    def path(self, curve: Curve) -> str:
        """A curve as the data of an SVG path; a dot is a line without length."""
        places = [f"{self.x.at(x):g} {self.y.at(y):g}" for x, y in curve.points]
        if curve.style == "line":
            return "M" + "L".join(places)
        return "".join(f"M{place}h0" for place in places)


# Where the curves begin and end.
CURVES = (84, 706)


# Loss curves.


@dataclass(frozen=True)
class Training:
    """A run of both frameworks: its losses, their difference, and what is said of them."""

    name: str
    run: dict[str, Any]
    charts: list[Chart]


def trainings(found: dict[str, Any]) -> list[Training]:
    """Every run of the record that both frameworks trained."""
    runs = {name: run for name, run in found["runs"].items() if len(run["frameworks"]) == 2}
    return [Training(name, run, [_losses(run), _difference(run)]) for name, run in runs.items()]


def _losses(run: dict[str, Any]) -> Chart:
    corpus, lines, dots = run["corpus"], [], []
    for side, figures in run["frameworks"].items():
        steps = [(float(n), loss) for n, loss in enumerate(figures["loss"], start=1)]
        checked = [(float(step), loss) for step, loss in figures["validation"]]
        lines.append(Curve(show.NAMES[side], side, "line", steps))
        dots.append(Curve(f"{show.NAMES[side]} in validation", side, "dots", checked))
    drawn = [*lines, *dots]
    named = {"by frequency alone": "unigram_nats", "entropy rate": "entropy_rate"}
    levels = {name: corpus[key] for name, key in named.items() if key in corpus}
    heights = [y for curve in drawn for _, y in curve.points]
    ends = ", ".join(f"{curve.label} {curve.points[-1][1]:.4f}" for curve in drawn)
    return Chart(
        title=f"Loss on {corpus['name']}",
        text=f"Loss in nats per token over the steps; at the end {ends}.",
        labels=("step", "loss, nats per token"),
        x=_steps(run),
        y=even([*heights, *levels.values()], 300, 12),
        curves=drawn,
        levels=levels,
    )


def _difference(run: dict[str, Any]) -> Chart:
    ours, theirs = (figures["loss"] for figures in run["frameworks"].values())
    gaps = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
    points = [(float(n), gap) for n, gap in enumerate(gaps, start=1) if gap > 0]
    same = len(gaps) - len(points)
    return Chart(
        title="Difference of the two losses, relative",
        text=f"Largest relative difference {run['apart']:.1e}; equal to the last bit at {same:,} "
        f"of {len(gaps):,} steps, which have no dot.",
        labels=("step", "difference, relative"),
        x=_steps(run),
        y=decades([gap for _, gap in points] or [run["apart"] or 1.0], 170, 12),
        curves=[Curve("difference", "both", "dots", points)],
        tick="{:.0e}".format,
    )


def _steps(run: dict[str, Any]) -> Scale:
    longest = max(len(figures["loss"]) for figures in run["frameworks"].values())
    return even([0.0, float(longest)], *CURVES)


# Planted bugs.


@dataclass(frozen=True)
class Planted:
    """Bugs and how each side's gates took them, with counts by gate."""

    caught: int
    total: int
    clean_ok: bool
    gates: dict[str, dict[str, int]]
    bugs: list[tuple[str, dict[str, dict[str, Any]]]]


def planted(found: dict[str, Any]) -> Planted:
    """The record of planted bugs, one entry a bug."""
    by_name: dict[str, dict[str, dict[str, Any]]] = {}
    gates: dict[str, dict[str, int]] = {}
    for row in found["mutants"]:
        by_name.setdefault(row["name"], {})[row["side"]] = row
        if row["caught"]:
            count = gates.setdefault(row["gate"], dict.fromkeys(show.NAMES, 0))
            count[row["side"]] += 1
    bugs = [(next(iter(sides.values()))["about"], sides) for sides in by_name.values()]
    return Planted(
        caught=sum(row["caught"] for row in found["mutants"]),
        total=len(found["mutants"]),
        clean_ok=found["clean_ok"],
        gates=gates,
        bugs=bugs,
    )


@dataclass(frozen=True)
class Diagnosed:
    """What diagnosis said of planted bugs, and how often it was right."""

    summary: list[tuple[str, int, int]]
    bugs: list[dict[str, Any]]


def diagnosed(found: dict[str, Any]) -> Diagnosed:
    """The record of diagnoses."""
    return Diagnosed(
        summary=render.diagnosed(found),
        bugs=found["bugs"],
    )


# The benchmark.


@dataclass(frozen=True)
class Race:
    """Contestants that raced one another: their table and their times."""

    record: str
    title: str
    head: list[str]
    cells: list[list[str]]
    timed: list[dict[str, Any]]
    scale: Scale
    disturbed: bool


@dataclass(frozen=True)
class Growth:
    """A step's time against one size that grows alone."""

    record: str
    axis: str
    sizes: list[int]
    rows: list[dict[str, Any]]
    chart: Chart


@dataclass(frozen=True)
class Speed:
    """All of the benchmark's records."""

    races: list[Race]
    growths: list[Growth]
    ceilings: dict[str, list[dict[str, Any]]]
    skipped: dict[str, list[dict[str, Any]]]


def speed(records: dict[str, dict[str, Any]]) -> Speed | None:
    """What the records of the benchmark hold, the most asked-for workload first."""
    if not records:
        return None
    groups = [
        (name, rows)
        for name, found in records.items()
        for rows in standing.groups(found)
        if rows[0]["workload"] != "growth"
    ]
    groups.sort(key=lambda group: _order(group[1][0]))
    axes = [
        (name, axis)
        for name, found in records.items()
        for axis in dict.fromkeys(one["axis"] for one in found["growth"])
    ]
    return Speed(
        races=[_race(name, rows, records[name]["ratios"]) for name, rows in groups],
        growths=[_growth(name, axis, records[name]) for name, axis in axes],
        ceilings={name: found["ceilings"] for name, found in records.items() if found["ceilings"]},
        skipped={name: found["skipped"] for name, found in records.items() if found["skipped"]},
    )


def _order(row: dict[str, Any]) -> tuple[int, bool]:
    known = row["workload"] in WORKLOADS
    place = WORKLOADS.index(row["workload"]) if known else len(WORKLOADS)
    return place, row["tier"] == "ladder"


def _race(name: str, rows: list[dict[str, Any]], ratios: list[dict[str, Any]]) -> Race:
    timed = [row for row in rows if row["status"] == "timed"]
    first = timed[0] if timed else None
    head = [*standing.HEAD, "parity, worst of its limit", "what it is"]
    if first:
        head[head.index("ratio")] = f"ratio to {first['contestant']}"
    cells = [[*standing.cells(row, first, ratios), row["about"].get("about", "")] for row in rows]
    kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
    longest = [row["quartile_high_s"] for row in timed]
    return Race(
        record=f"{name}.json",
        title=standing.title(rows[0]),
        head=[head[i] for i in kept],
        cells=[[row[i] for i in kept] for row in cells],
        timed=timed,
        scale=even(longest or [1.0], *BARS, zero=True, steps=3),
        disturbed=not all(row["clean"] for row in timed),
    )


# Where the bars begin and the longest ends, between the names and the times.
BARS = (148, 416)


def _growth(name: str, axis: str, found: dict[str, Any]) -> Growth:
    rows = [one for one in found["growth"] if one["axis"] == axis]
    framework = {row["contestant"]: row["framework"] for row in found["results"]}
    sizes = sorted({size for one in rows for size in one["sizes"]})
    times = [time for one in rows for time in one["median_s"]]
    grown = ", ".join(f"{one['contestant']} {one['exponent']:.2f}" for one in rows)
    lines = []
    for one in rows:
        side = framework[one["contestant"]]
        points = list(zip(map(float, one["sizes"]), one["median_s"], strict=True))
        lines.append(Curve(one["contestant"], side, "line", points))
        lines.append(Curve("", side, "dots", points))
    chart = Chart(
        title=f"A step's time against {AXES.get(axis, axis)}",
        text=f"Both scales are logarithmic. Exponents: {grown}.",
        labels=(AXES.get(axis, axis), "time of a step"),
        x=Scale(sizes[0], sizes[-1], *CURVES, tuple(sizes), log=True),
        y=decades(times, 260, 12),
        curves=lines,
        tick=standing.seconds,
    )
    return Growth(f"{name}.json", AXES.get(axis, axis), sizes, rows, chart)
