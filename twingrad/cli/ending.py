"""How a command ends: its exit status, or one sentence on stderr about what it could not do."""

import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from twingrad import user_code
from twingrad.cli import surroundings
from twingrad.cli.options import HelpPrinted
from twingrad.environment import checkout
from twingrad.printable import sentence

# A call or an input was wrong; what a closed pipe ends a program with, as the shell counts it.
WRONG, CLOSED_PIPE = 2, 128 + 13
# Packages of a checkout that are not the user's.
_PACKAGES = ("bench", "shared", "torch_impl", "jax_impl")
# Signals that end a command, and what is said of each.
STOPPING = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
# Seconds within which a signal that comes again is the same one, sent to a group and to a process.
AGAIN_S = 1.0
# Packages whose import has C++ on the stack. An exception that goes through C++ ends the process.
_NATIVE = ("torch", "jax", "jaxlib")
# A signal during such an import is sent again every 0.05 s until the import has ended. An import
# that hangs is broken off 10 s after the first signal.
_RETRY_S, _MOST_S = 0.05, 10.0


class Stopped(KeyboardInterrupt):
    """A signal that ends the command: ``number`` is the signal's."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def exit_status(run: Callable[[], int]) -> int:
    """The status that ``run`` returns; what it raises becomes one sentence on stderr and 2.

    Under the sentence about an error in the user's own code stand the lines of that code. After a
    signal the status is 128 and its number, and 141 where nobody reads what is printed.
    """
    # PyTorch asks the kernel for large pages, which spares thousands of faults a large tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Its threads sleep while they wait. By default they spin, and where JAX or another program
    # wants the core that they spin on, a step takes many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _stopped_by_signals(), _encodable():
        try:
            status = run()
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
        except HelpPrinted:
            try:
                sys.stdout.flush()
            except OSError as error:
                return _ended_by(error)
            raise
        except BaseException as error:
            return _ended_by(error)


def open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that the caller has closed, on nothing.

    The next file to be opened would otherwise be one of them, and get what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", closefd=False))


def say(*lines: str) -> None:
    """Print a message of ours on stderr, where there is one."""
    with suppress(OSError, ValueError, AttributeError):
        print("\n".join(lines), file=sys.stderr, flush=True)


def stopped(number: int) -> int:
    """Say that the signal ``number`` has ended the command; its status."""
    say(f"twingrad: {STOPPING.get(signal.Signals(number), f'ended by signal {number}')}")
    return 128 + number


def _ended_by(error: BaseException) -> int:
    """Say what has ended a command, and return its status."""
    if isinstance(error, KeyboardInterrupt):
        _ignore_signals()
        return stopped(error.number if isinstance(error, Stopped) else signal.SIGINT)
    if isinstance(error, BrokenPipeError) and _is_unread():
        _discard_output()
        return CLOSED_PIPE
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        first, *frames = user_code.lines(error)
        say("twingrad: " + sentence(first), *map(_indented, frames))
    elif isinstance(error, OSError) and error.errno and not isinstance(error, BrokenPipeError):
        _discard_unwritten()
        place = "" if error.filename is None else f"{str(error.filename)[:200]}: "
        reason = f"{place}{error.strerror or error}"
        say(f"twingrad: {sentence(reason)}; give another path, or free space there")
    elif isinstance(error, MemoryError):
        say(sentence(f"twingrad: not enough memory ({error}): ask for something smaller"))
    else:
        say(*_unexpected(error))
    return WRONG


def _unexpected(error: BaseException) -> list[str]:
    """The lines about an error that nobody has foreseen, which say where its traceback is."""
    root = checkout()
    ours = () if root is None else tuple(f"{root}{os.sep}{name}{os.sep}" for name in _PACKAGES)
    theirs = [one for one in user_code.frames_of(error) if not one.file.startswith(ours)]
    frames = [str(frame) for frame in theirs]
    whose = "your code" if frames else "twingrad or a library under it"
    text = "".join(traceback.format_exception(error))
    parts = [f"twingrad: {whose} raised {user_code.error_text(error)}", surroundings.advice(text)]
    said = "; ".join(filter(None, (*parts, _kept(text))))
    return [sentence(said), *map(_indented, frames)]


def _indented(frame: str) -> str:
    return f"  {sentence(frame)}"


def _kept(text: str) -> str:
    """Write a traceback to a file; a clause that says where it is."""
    try:
        handle, path = tempfile.mkstemp(prefix="twingrad-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return "its traceback could not be written: set TMPDIR to a folder that can be written to"
    return f"its traceback is in {path}"


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Have the signals that end a command raise ``Stopped`` within, so that everything is put away.

    One that is ignored stays so, as under nohup. What is raised and lost, in a destructor or in
    a callback of the garbage collector, is raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last, waiting_since = float("-inf"), None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last, waiting_since
        now = time.monotonic()
        if _is_importing(frame):
            waiting_since = waiting_since or now
            if now - waiting_since < _MOST_S:
                _send_later(number)
                return
        waiting_since, before, last = None, last, now
        if last - before > AGAIN_S:
            raise Stopped(number)

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal last
        if isinstance(unraisable.exc_value, Stopped):
            last = float("-inf")
            _send_later(unraisable.exc_value.number)
        else:
            told(unraisable)

    handled = {
        number: signal.signal(number, stop)
        for number in STOPPING
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    told, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield
    finally:
        sys.unraisablehook = told
        for number, before in handled.items():
            signal.signal(number, before)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module of a package with C++ is being imported."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package in _NATIVE:
            return True
        frame = frame.f_back
    return False


def _send_later(number: int) -> None:
    """Send this process a signal again, soon."""
    again = threading.Timer(_RETRY_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _ignore_signals() -> None:
    """Let nothing interrupt the last words."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _encodable() -> Iterator[None]:
    """Have stdout and stderr replace, within, characters that their encoding does not have."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        before = getattr(stream, "errors", None)
        # Python has surrogateescape on stdout where there is no language.
        if reconfigure is not None and before in ("strict", "surrogateescape"):
            reconfigure(errors="replace")
            changed.append((reconfigure, before))
    try:
        yield
    finally:
        for reconfigure, before in changed:
            with suppress(OSError, ValueError):
                reconfigure(errors=before)


def _is_unread() -> bool:
    """Whether stdout is a pipe that nobody reads any more, and not another of this process's."""
    with suppress(OSError, ValueError, AttributeError):
        state = select.poll()
        state.register(sys.stdout.fileno(), 0)
        return bool(state.poll(0))
    return False


def _discard_output() -> None:
    """Have nothing more printed where nobody reads."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _discard_unwritten() -> None:
    """Where stdout itself cannot be written, as on a full disk, discard what is left of it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _discard_output()
