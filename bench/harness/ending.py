"""Ends of a call from outside: SIGTERM, which is taken as Ctrl-C, and the end of a budget."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_UNITS = {"s": 1, "m": 60, "h": 3600}


class BudgetEnded(KeyboardInterrupt):
    """The end of the time that a call was given; like Ctrl-C, it passes every other handler."""


@contextmanager
def interruptible(budget_s: float | None = None) -> Iterator[None]:
    """Within, SIGTERM raises ``KeyboardInterrupt``, and the end of the budget ``BudgetEnded``.

    Both are raised in the main thread, as soon as Python has control again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _end)
    if budget_s is not None:
        signal.setitimer(signal.ITIMER_REAL, budget_s)
    try:
        yield
    finally:
        if budget_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    raise BudgetEnded


def seconds(text: str) -> float:
    """``90s``, ``9m`` or ``1h``, or plain seconds; ``ValueError`` for anything else."""
    number, scale = text, 1
    if text[-1:] in _UNITS:
        number, scale = text[:-1], _UNITS[text[-1]]
    try:
        value = float(number) * scale
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"--budget is {text!r}: expected a time such as 90s, 9m or 1h")
    return value
