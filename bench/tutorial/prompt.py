"""Python's prompt, into which a column of a page is pasted block by block."""

import code
import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import NoReturn

from bench.tutorial import pages
from bench.tutorial.pages import Block


@dataclass(frozen=True)
class Ran:
    """A block of Python that was run, what it printed, and the pictures (PNG) that it drew."""

    block: Block
    printed: str
    pictures: tuple[bytes, ...]


class Prompt(code.InteractiveConsole):
    """Python's prompt, which raises what it would show."""

    def runcode(self, code: CodeType) -> None:
        """Run a statement without showing its value, which no listing has."""
        hook, sys.displayhook = sys.displayhook, _discard
        try:
            super().runcode(code)
        finally:
            sys.displayhook = hook

    def showsyntaxerror(self, filename: str | None = None, **_: object) -> NoReturn:
        """Raise the error of a statement that cannot be read."""
        raise

    def showtraceback(self) -> NoReturn:
        """Raise the error of a statement that was run."""
        raise

    def paste(self, text: str) -> str:
        """Give it a block line by line, and Enter after it; returns what was printed."""
        more = False
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            for line in [*text.splitlines(), ""]:
                more = self.push(line)
        if more:
            raise ValueError(f"a statement does not end: {text}")
        return stdout.getvalue()


def _discard(value: object) -> None:
    """Show no value of a statement."""


def run(page: Path, side: str, names: dict[str, object]) -> Iterator[Ran]:
    """Paste every block of a column; ``names`` are what the blocks define.

    Raises whatever a block raises; the block's line is the name of its file in the traceback.
    """
    prompt = Prompt(names)
    for block in pages.column(page, side):
        if block.language == "python":
            prompt.filename = f"{page.name}, block of line {block.line}"
            printed = prompt.paste(block.text)
            yield Ran(block, printed, _pictures())


def _pictures() -> tuple[bytes, ...]:
    """The pictures that were drawn and not closed, which are then closed."""
    if "matplotlib.pyplot" not in sys.modules:
        return ()
    from matplotlib import pyplot

    pictures = []
    for number in pyplot.get_fignums():
        with io.BytesIO() as file:
            figure = pyplot.figure(number)
            figure.savefig(file, format="png", dpi=72, metadata={"Software": None})
            pictures.append(file.getvalue())
        pyplot.close(figure)
    return tuple(pictures)
