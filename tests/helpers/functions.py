"""Functions that tests have called in another process, which finds them by their names."""

import os
import signal
from dataclasses import dataclass

from bench.harness import programs
from bench.harness.programs import Program
from bench.parity.program_runs import UnexpectedDtype


@dataclass(frozen=True)
class Make:
    """Makes a built-in program with a few training steps."""

    name: str

    def __call__(self) -> Program:
        return programs.make(self.name, steps=5)


class Unsendable(Exception):
    """An error that takes more than its text, and so cannot be made anew elsewhere."""

    def __init__(self, one: int, other: int):
        super().__init__(f"of {one} and {other}")


def unsendable() -> None:
    """Raise it."""
    raise Unsendable(3, 4)


def unsendable_value() -> object:
    """A value that stays in its process."""
    return lambda: None


def unexpected_dtype(text: str) -> None:
    """Raise the project's own error."""
    raise UnexpectedDtype(text)


def exit_at_once(status: int) -> None:
    """End this process without a word."""
    os._exit(status)


def end_by(number: int) -> None:
    """Have a signal sent to this process."""
    os.kill(os.getpid(), number)


def end_at_once(*_: object) -> None:
    """Have this process ended as the system does where memory runs out."""
    end_by(signal.SIGKILL)
