"""A table that fits its console: its columns fold, then move under one another, then stack.

No cell is ever cut. Where the natural widths do not fit, words move to the next line; where numbers
would not stand whole, every row becomes a few lines of ``column  value``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

# Columns that a text is folded to at least, unless it is shorter.
NARROWEST = 12
# Characters behind which a name may go on in the next line.
_BREAKS = frozenset(" -./,:;=)]")


@dataclass(frozen=True)
class _Column:
    """A column's head and cells; ``right`` is of numbers, which never fold."""

    head: Text
    cells: list[Text]
    right: bool

    @property
    def widest(self) -> int:
        """The width at which nothing folds."""
        return max((_width(text) for text in (self.head, *self.cells)), default=0)

    @property
    def least(self) -> int:
        """The width under which a number, or a word of the head, would be torn apart."""
        if not self.right:
            return min(self.widest, NARROWEST)
        words = [len(word) for word in self.head.plain.split()]
        return max([*words, *(_width(cell) for cell in self.cells)], default=0)


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n")), default=0)


class FoldingTable(Table):
    """A table whose layout is chosen by the width of what it is printed on.

    ``below`` has the names of columns that move under another one before anything stacks.
    """

    def __init__(self, *, title: str | None = None, below: Mapping[str, str] | None = None):
        super().__init__(box=box.SIMPLE_HEAD, pad_edge=False)
        self.heading, self.below = title, dict(below or {})
        self.note: str | None = None

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as it may be."""
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The title, the table in the layout that fits, and the note under it."""
        if self.heading:
            yield Text(self.heading, style="bold")
        columns = self._filled(console)
        for part in _laid_out(columns, self.below, options.max_width):
            if isinstance(part, Table):
                part.show_header = self.show_header
            yield part
        if self.note:
            yield Text(self.note)
            yield Text()

    def _filled(self, console: Console) -> list[_Column]:
        """The columns as text, without those that are empty in every row."""
        columns = []
        for column in self.columns:
            cells = [_text(console, cell) for cell in column.cells]
            if any(cell.plain for cell in cells) or not cells:
                head = _text(console, column.header)
                columns.append(_Column(head, cells, column.justify == "right"))
        return columns


def _text(console: Console, cell: RenderableType) -> Text:
    return console.render_str(cell, highlight=False) if isinstance(cell, str) else Text(str(cell))


def _laid_out(
    columns: list[_Column], below: Mapping[str, str], width: int
) -> Iterator[RenderableType]:
    if 3 * len(columns) - 1 + sum(column.widest for column in columns) <= width:
        yield _table(columns, [column.widest for column in columns], gap=3)
        return
    merged = _merged(columns, below)
    for choice in (columns, merged) if merged is not columns else (columns,):
        room = width - 2 * len(choice)
        # Where columns can move under one another, no text need be folded to its narrowest.
        spare = NARROWEST if choice is not merged else 0
        if sum(column.least for column in choice) + spare <= room:
            yield _table(choice, _shrunk(choice, room), gap=2)
            return
    yield from _stacked(columns, width)


def _merged(columns: list[_Column], below: Mapping[str, str]) -> list[_Column]:
    """The columns, those of ``below`` moved under another one."""
    by_head = {column.head.plain: column for column in columns}
    moves = {name: under for name, under in below.items() if {name, under} <= by_head.keys()}
    if not moves:
        return columns
    for name, under in moves.items():
        upper, lower = by_head[under], by_head[name]
        head = Text(",\n" if upper.right else ", ").join([upper.head, lower.head])
        cells = [
            Text("\n" if upper.right else "\n  ").join([above, text]) if text.plain else above
            for above, text in zip(upper.cells, lower.cells, strict=True)
        ]
        by_head[under] = _Column(head, cells, upper.right)
    return [by_head[column.head.plain] for column in columns if column.head.plain not in moves]


def _shrunk(columns: Sequence[_Column], room: int) -> list[int]:
    """Widths that fit into ``room``: the widest column gives first."""
    widths = [column.widest for column in columns]
    least = [column.least for column in columns]
    while sum(widths) > room:
        i = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
        widths[i] -= 1
    return widths


def _table(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> Table:
    """The columns folded to ``widths``, as a table of rich's."""
    padding = (0, 1, 0, gap - 2)  # a column's divider is a space, too
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding)
    for column, width in zip(columns, widths, strict=True):
        justify: JustifyMethod = "right" if column.right else "left"
        table.add_column(folded(column.head, width), justify=justify, width=width, overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(folded, cells, widths))
    return table


def _stacked(columns: Sequence[_Column], width: int) -> Iterator[Text]:
    """Every row as lines of ``column  value``, under its first cell."""
    first, *others = columns
    named = [column for column in others if column.head.plain]
    nameless = [column for column in others if not column.head.plain]
    margin = min(max((column.head.cell_len for column in named), default=0), max(width // 3, 1))
    for i, top in enumerate(first.cells):
        yield Text()
        top = Text(": ").join([first.head, top]) if first.head.plain else top
        heading = [top, *(column.cells[i] for column in nameless if column.cells[i].plain)]
        for line in folded(Text("  ").join(heading), width - 1).split("\n"):
            line.stylize("bold")
            yield Text(" ") + line
        for column in named:
            if not column.cells[i].plain:
                continue
            names = folded(column.head, margin).split("\n")
            values = folded(column.cells[i], max(width - margin - 5, 1)).split("\n")
            for row in range(max(len(names), len(values))):
                name = names[row] if row < len(names) else Text()
                value = values[row] if row < len(values) else Text()
                name.pad_right(margin - name.cell_len)
                yield Text("   ") + name + Text("  ") + value
    yield Text()


def folded(text: Text, width: int) -> Text:
    """The text with line breaks so that no line is wider than ``width``; nothing is left out."""
    lines = [part for line in text.split("\n") for part in _fold_line(line, width)]
    return Text("\n").join(lines)


def _fold_line(line: Text, width: int) -> Iterator[Text]:
    indent = len(line.plain) - len(line.plain.lstrip())
    indent = indent if indent < width else 0
    while line.cell_len > width:
        at = _break(line.plain, width, indent)
        head, line = line.divide([at])
        head.rstrip()
        yield head
        line = Text(" " * indent) + line[len(line.plain) - len(line.plain.lstrip()) :]
    yield line


def _break(plain: str, width: int, indent: int) -> int:
    """Where a line is broken: behind the last space or mark that fits, else wherever it is full."""
    fits = len(plain)
    while Text(plain[:fits]).cell_len > width:
        fits -= 1
    fits = max(fits, indent + 1)
    for at in range(min(fits, len(plain) - 1), indent, -1):
        if plain[at] == " " or (plain[at - 1] in _BREAKS and plain[at - 1] != " "):
            return at
    return fits
