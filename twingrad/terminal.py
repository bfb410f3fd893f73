"""Consoles, numbers and progress as a terminal or a log shows them."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from twingrad.folding import FoldingTable
from twingrad.printable import printable

NAMES = {"torch": "PyTorch", "jax": "JAX"}
# Columns of a console that is no terminal: a log or a pipe.
PIPE_WIDTH = 120
# Seconds between two lines of a log about details, of which there may be hundreds.
DETAIL_S = 10.0
# Seconds after which a log says that a stage is still under way.
STILL_S = 30.0


class PlainConsole(Console):
    """A console on which text cannot steer the terminal; a closed pipe is an error like others."""

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: Callable[[str | Text], Text] | None = None,
    ) -> Text:
        """``text`` as it is printed, so that its width is known."""
        return super().render_str(
            printable(text),
            style=style,
            justify=justify,
            overflow=overflow,
            emoji=emoji,
            markup=markup,
            highlight=highlight,
            highlighter=highlighter,
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is printed of ``renderable``."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)

    def on_broken_pipe(self) -> None:
        """Raise ``BrokenPipeError``; rich itself would end the program, with status 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def new_console() -> Console:
    """A console as wide as the terminal; in a pipe as wide as COLUMNS says, or 120 columns.

    With NO_COLOR, and on a terminal called dumb, it writes no escape sequence.
    """
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")
    console = PlainConsole(highlight=False, color_system=None if plain else "auto")
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return PlainConsole(highlight=False, color_system=None, width=PIPE_WIDTH)


def table(
    *columns: str,
    title: str | None = None,
    right: tuple[str, ...] = (),
    below: dict[str, str] | None = None,
) -> FoldingTable:
    """An empty table in the house's style; the columns in ``right`` are aligned to the right.

    ``below`` names columns that move under another one where the table is too wide.
    """
    empty = FoldingTable(title=title, below=below)
    for column in columns:
        empty.add_column(column, justify="right" if column in right else "left")
    return empty


def put(console: Console, rows: FoldingTable) -> None:
    """Print a table under its title."""
    console.print(rows)


class Say(Protocol):
    """Shows the stage that begins; of stages that are a ``detail`` there is too much for a log."""

    def __call__(self, text: str, *, detail: bool = False) -> None:
        """Show ``text``, which may hold names of others."""


def silent(text: str, *, detail: bool = False) -> None:
    """Discard progress messages."""


@contextmanager
def progress(console: Console, first: str = "starting") -> Iterator[Say]:
    """A function that shows what is being done, and how long everything has taken so far.

    Where ``console`` is a terminal that can move its cursor, one line changes. Elsewhere each stage
    is a line on stderr, so that a log shows life and stdout is the result alone.
    """
    started = time.monotonic()
    if is_live(console):
        with console.status(first) as status:

            def update(text: str, *, detail: bool = False) -> None:
                status.update(f"{time.monotonic() - started:4.0f} s  {escape(text)}")

            yield update
        return
    if console.quiet:
        yield silent
        return
    log = _Log(started)
    try:
        yield log
    finally:
        log.ended.set()


def is_live(console: Console) -> bool:
    """Whether a line of ``console`` can change after it was written."""
    return console.is_terminal and not console.is_dumb_terminal and console.color_system is not None


class _Log:
    """Progress as lines on stderr, each with the seconds since the start.

    A stage that takes long is said again every ``STILL_S`` seconds, until ``ended`` is set.
    """

    def __init__(self, started: float):
        self.started, self.text, self.written_at = started, "", float("-inf")
        self.ended = threading.Event()

    def __call__(self, text: str, *, detail: bool = False) -> None:
        now = time.monotonic()
        if text == self.text or (detail and now - self.written_at < DETAIL_S):
            return
        if not self.text:
            threading.Thread(target=self._repeat, daemon=True).start()
        self.text = text
        self._write(text, now)

    def _write(self, text: str, now: float) -> None:
        self.written_at = now
        with suppress(OSError, ValueError):  # a log that cannot be written stops nothing
            print(f"{now - self.started:4.0f} s  {printable(text)}", file=sys.stderr, flush=True)

    def _repeat(self) -> None:
        while not self.ended.wait(max(1.0, self.written_at + STILL_S - time.monotonic())):
            now = time.monotonic()
            if now - self.written_at >= STILL_S:
                self._write(f"still: {self.text}", now)


def units(value: float) -> str:
    """An error in units of u, short."""
    if value >= 1e6:
        return "∞" if value >= 1e299 else f"{value:.1e}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
