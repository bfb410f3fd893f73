"""Errors that the code of a pair raises: where in the user's own files, and the lines there.

A sentence names the file and the line. The last frames of the user's own code travel with the
exception: as a note, which Python, notebooks and pytest print, and as ``frames`` for the command
line.
"""

import linecache
import os
import sys
import sysconfig
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOST_FRAMES = 5
_OURS = str(Path(__file__).parent)
# Found where they are loaded: a library may be installed from a checkout.
_LIBRARIES = (
    "torch",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "equinox",
    "haiku",
    "keras",
    "numpy",
    "pytest",
)
# Names of files that no file has and that hold a user's code all the same.
_TYPED_IN = ("<ipython-input", "<python-input", "<stdin")


@dataclass(frozen=True)
class Frame:
    """One line of the user's code that was running: its file, number, function and text."""

    file: str
    line: int
    function: str
    text: str

    @property
    def place(self) -> str:
        """File and line, as a sentence has them."""
        return f"{_shown(self.file)}, line {self.line}"

    def __str__(self) -> str:
        within = f" in {self.function}" if self.function else ""
        return f"{_shown(self.file)}:{self.line}{within}" + (f": {self.text}" if self.text else "")


class UserCodeError(ValueError):
    """What the code of a pair raised, in a sentence; ``frames`` are the last lines of that code.

    The frames, outermost first, are a note of the exception too (PEP 678).
    """

    def __init__(self, sentence: str, frames: tuple[Frame, ...] = ()):
        super().__init__(sentence)
        self.frames = frames
        if frames:
            self.add_note("\n".join(f"  {frame}" for frame in frames))


def refused(who: str, error: BaseException, advice: str) -> UserCodeError:
    """The error to raise where the user's code, called ``who`` in the sentence, raised ``error``.

    Example::

        raise refused("the pair's jax", error, "fix it") from error
    """
    frames = frames_of(error)
    place = f" ({frames[-1].place})" if frames else ""
    return UserCodeError(f"{who} raised {error_text(error)}{place}: {advice}", frames)


def lines(error: BaseException) -> list[str]:
    """The sentence of ``error`` in one line, then the user's frames, a line each."""
    frames = error.frames if isinstance(error, UserCodeError) else ()
    return [" ".join(str(error).split()), *(f"  {frame}" for frame in frames)]


def error_text(error: BaseException) -> str:
    """The class of ``error``, which a pair's own code raised, and the first line of its message."""
    try:
        # Python adds the place to the message of a syntax error, of which only the file is short.
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        said = [line.strip() for line in message.splitlines() if line.strip()]
    except Exception:  # a class of the pair's own, whose message fails
        said = []
    reason = said[0].rstrip(".") if said else "no reason given"
    return f"{type(error).__name__}: {reason}"


def frames_of(error: BaseException) -> tuple[Frame, ...]:
    """The last lines of the user's own code that ``error`` came through, the innermost last.

    Lines of libraries, of Python's own and of twingrad are left out. A syntax error ends with the
    line that cannot be read.
    """
    found: list[Frame] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if is_users(file):
            function = frame.f_code.co_qualname.rpartition("<locals>.")[2]
            text = linecache.getline(file, line, frame.f_globals).strip()
            found.append(Frame(file, line, function, text))
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        text = error.text or linecache.getline(error.filename, error.lineno or 0)
        found.append(Frame(error.filename, error.lineno or 0, "", text.strip()))
    return tuple(found[-MOST_FRAMES:])


def is_users(file: str) -> bool:
    """Whether ``file`` is the user's own: no library's, none of Python's, none of twingrad's."""
    if file.startswith("<"):
        return file.startswith(_TYPED_IN)
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    folders = (_OURS, *_python_folders(), *filter(None, map(_folder_of, _LIBRARIES)))
    return not os.path.abspath(file).startswith(tuple(f"{folder}{os.sep}" for folder in folders))


@cache
def _python_folders() -> tuple[str, ...]:
    return tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


def _folder_of(library: str) -> str | None:
    file = getattr(sys.modules.get(library), "__file__", None)
    return os.path.dirname(file) if file else None


def _shown(file: str) -> str:
    """A file by its path from the working folder, if it lies in it."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # no working folder any more, or another drive
        return file
    return file if relative.startswith(os.pardir) or file.startswith("<") else relative
