"""Output that stops no training: a stream that goes on where nothing can be written any more."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from twingrad.cli.ending import say


class UnstoppableStream(io.TextIOBase):
    """``stream``, until it cannot be written: from then on what is written is dropped.

    A reader that has gone is what was wanted, as of ``head``. Any other reason is said on stderr.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._is_open = True

    def write(self, text: str) -> int:
        """Write ``text``, or drop it."""
        if self._is_open:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it."""
        if self._is_open:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def end(self) -> None:
        """Flush for the last time, and leave the stream to others."""
        self.flush()
        self._is_open = False

    def _give_up(self, error: Exception) -> None:
        self._is_open = False
        try:  # what it still holds would be written when Python ends, and fail once more
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass
        if not isinstance(error, BrokenPipeError):
            reason = getattr(error, "strerror", None) or error
            say(f"twingrad: nothing more can be printed ({reason}); the training goes on")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_open and self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Whether it takes text: always."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text."""
        return self._stream.encoding


@contextmanager
def output_stops_nothing() -> Iterator[None]:
    """Within, neither stdout nor stderr raises where it cannot be written."""
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is not None:
            setattr(sys, name, UnstoppableStream(stream))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, UnstoppableStream):
                stream.end()
        sys.stdout, sys.stderr = before
