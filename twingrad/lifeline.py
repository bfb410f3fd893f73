"""Processes that end when the one that started them has ended, however that did."""

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, MutableMapping

# Set by a process for a command that it starts and that is to end with it.
VARIABLE = "TWINGRAD_ENDS_WITH_PARENT"
# Seconds between two looks at the parent where the system cannot tell of its end.
_LOOK_S = 0.5


def end_with_parent(end: Callable[[], None] | None = None) -> None:
    """Have ``end`` called when this process's parent has ended; by default, end at once.

    Call it first thing in a process. A signal of the system's would do the same, but also when no
    more than the thread has ended that started the process.
    """
    started_by = multiprocessing.parent_process()
    parent = os.getppid() if started_by is None or started_by.pid is None else started_by.pid
    threading.Thread(target=_watch, args=(parent, end or _end), daemon=True).start()


def end_with_parent_if_told(environ: MutableMapping[str, str]) -> None:
    """``end_with_parent``, where the parent has set ``VARIABLE``; children are not told so."""
    if environ.pop(VARIABLE, ""):
        end_with_parent()


def end_with_parent_at_once(parent: int) -> None:
    """Have the system kill this process when ``parent``, whose main thread forked it, has ended.

    Without such a call of the system's, as ``end_with_parent``.
    """
    try:
        import ctypes

        pr_set_pdeathsig = 1
        if ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError
    except (ImportError, OSError, AttributeError):
        end_with_parent()
    if os.getppid() != parent:  # it had ended before
        _end()


def end_with_group() -> None:
    """End this process and all that it has started, of which it leads the group."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    _end()


def _watch(parent: int, end: Callable[[], None]) -> None:
    _wait_for(parent)
    end()


def _wait_for(parent: int) -> None:
    """Return once the process ``parent``, this one's, has ended."""
    try:
        handle = os.pidfd_open(parent)
    except (AttributeError, OSError):
        handle = None
    if handle is not None:
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        while os.getppid() == parent and not waiting.poll():
            pass
        os.close(handle)
    while os.getppid() == parent:
        time.sleep(_LOOK_S)


def _end() -> None:
    os._exit(1)
