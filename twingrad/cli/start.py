"""The first of this project's code that runs in a command: Ctrl-C is one sentence from here on.

It imports next to nothing, so that a signal that comes while all else is imported finds a handler.
"""

import os
import signal
from types import FrameType

# As ``twingrad.cli.ending`` says it, which is among what is imported later.
_SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def main() -> int:
    """Run the command line as a program of its own; its exit status."""
    end_at_signals()
    from twingrad.cli.main import main

    return main()


def end_at_signals() -> None:
    """End this process at Ctrl-C, a termination or a hang-up: one sentence, 128 and the number.

    For as long as nothing has begun that would have to be put away: commands have their own
    handlers. A signal that is ignored stays so, as under nohup.
    """
    for number in _SAID:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"twingrad: {_SAID[signal.Signals(number)]}\n".encode())
    except OSError:  # stderr is closed
        pass
    finally:
        os._exit(128 + number)
