"""A process that computes one framework's half of something, beside this one with the other half.

It imports the framework as soon as it starts, while this process is still busy with its own.
"""

import copy
import importlib
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TypeAlias, TypeVar, TypeVarTuple

from twingrad import lifeline

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
# A function and its arguments.
_Request: TypeAlias = tuple[Callable[[*tuple[object, ...]], object], tuple[object, ...]]


class SideProcess:
    """A process that calls functions one after the other; use it as a context.

    ``imports`` are the modules that it imports first. It dies with this process, and at the end of
    the context, whatever it is doing then.
    """

    def __init__(self, imports: tuple[str, ...]):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._turn = threading.Lock()
        self._process = context.Process(target=_serve, args=(theirs, imports), daemon=True)
        self._process.start()
        theirs.close()  # so that reading ends when the process does

    def call(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What ``function(*arguments)`` returns there, or what it raises.

        ``ValueError`` says so where the process has ended before it answered.
        """
        try:
            with self._turn:
                self._connection.send((function, arguments))
                value, error = self._connection.recv()
        except (EOFError, ConnectionError) as ended:
            self._process.join()
            raise ValueError(_ended(self._process.exitcode)) from ended
        if error is not None:
            raise error
        returned: T = value
        return returned

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _ended(status: int | None) -> str:
    """One sentence on a process that has ended by itself."""
    killed = status is not None and status < 0
    reason = f"signal {-(status or 0)}" if killed else f"status {status}"
    memory = ": free some memory, or compare something smaller" if status == -signal.SIGKILL else ""
    return f"the process that computes JAX's half ended with {reason}{memory}"


def _serve(connection: "Connection[object, _Request]", imports: tuple[str, ...]) -> None:
    """Import, then answer calls until the other end is closed."""
    begin_worker()
    failed: Exception | None = None
    try:
        for name in imports:
            importlib.import_module(name)
    except Exception as error:
        failed = error
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        answer = (None, _portable(failed)) if failed else _answer(function, arguments)
        try:
            connection.send(answer)
        except Exception as error:  # of a value that cannot be sent; nothing has been written yet
            connection.send((None, RuntimeError(f"{type(error).__name__}: {error}")))


def _answer(
    function: Callable[[*Ts], object], arguments: tuple[*Ts]
) -> tuple[object, Exception | None]:
    """What a call returns, or the error that it raises."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """``error`` with the place where it was raised, or its text where it cannot be sent."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        copy.copy(error)  # makes it anew as the other end would, from its arguments
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def begin_worker() -> None:
    """Prepare a process that works for another: it ends with that one, and at once at Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches both; the parent speaks of it
    lifeline.end_with_parent()


@contextmanager
def ended_on_error() -> Iterator[None]:
    """End the processes that this one has started where the block raises, whatever they do."""
    try:
        yield
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()
        raise
