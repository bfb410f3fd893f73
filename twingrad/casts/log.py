"""Which modules cast their numbers to a lower precision, as it is seen while a model runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Floating-point dtypes below float64, by the names that both frameworks have for them.
LOWER = ("float32", "bfloat16", "float16")
WHOLE = ""  # the path of the model itself


@dataclass
class CastLog:
    """For each module that casts to a lower precision, to which; ``WHOLE`` is the model.

    Numbers that are cast are of float64, or integers. ``constants`` says whether numbers were met
    that were rounded to float32 before.
    """

    seen: dict[str, set[str]] = field(default_factory=dict)
    constants: bool = False
    _open: list[str] = field(default_factory=list)

    def enter(self, path: str) -> None:
        """A call of the module at ``path`` begins."""
        self._open.append(path)

    def leave(self) -> None:
        """The innermost call ends."""
        if self._open:
            self._open.pop()

    def add(self, dtype: str) -> None:
        """The innermost module casts to ``dtype``."""
        self.seen.setdefault(self._open[-1] if self._open else WHOLE, set()).add(dtype)


_logs: list[CastLog] = []


@contextmanager
def watching(log: CastLog) -> Iterator[CastLog]:
    """Within, calls and casts are told to ``log``."""
    _logs.append(log)
    try:
        yield log
    finally:
        _logs.pop()


def enter(path: str) -> None:
    """Tell the log, if there is one, that a call of the module at ``path`` begins."""
    if _logs:
        _logs[-1].enter(path)


def leave() -> None:
    """Tell the log, if there is one, that the innermost call ends."""
    if _logs:
        _logs[-1].leave()


def add(dtype: str) -> None:
    """Tell the log, if there is one, of a cast to ``dtype``."""
    if _logs:
        _logs[-1].add(dtype)


def add_constant() -> None:
    """Tell the log, if there is one, of a constant whose numbers are float32's."""
    if _logs:
        _logs[-1].constants = True


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Within, casts are those of the module at ``path``."""
    enter(path)
    try:
        yield
    finally:
        leave()
