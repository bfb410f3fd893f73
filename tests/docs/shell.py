"""A reader's shell in a fresh folder: one command after another, in a terminal or in a pipe."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from dataclasses import dataclass
from pathlib import Path

COLUMNS, ROWS = 80, 24
WAYS = ("terminal", "pipe")
# Keeps the folder and the variables of one command for the next, as a shell that stays open does.
_SCRIPT = """
if [ -f "$WALK_STATE" ]; then . "$WALK_STATE"; fi
eval "$WALK_COMMAND"
status=$?
{ export -p | grep -v 'WALK_COMMAND='; printf 'cd %q\\n' "$PWD"; } > "$WALK_STATE"
exit $status
"""
# Colours, and what a progress display moves the cursor by.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, all that it printed, and how long it took."""

    status: int
    text: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The lines as they appeared, one for each time that a line was written over."""
        return [row.rstrip() for row in re.split(r"[\r\n]+", _CONTROL.sub("", self.text))]


@dataclass(frozen=True)
class Shell:
    """Commands are run in ``folder`` and where they change to; their home is ``folder`` too."""

    folder: Path
    way: str
    variables: dict[str, str]

    def run(self, command: str, limit: float) -> Outcome:
        """Run a command to its end; after ``limit`` seconds it is killed, with status 124."""
        call = ["bash", "--norc", "-c", _SCRIPT]
        variables = self._all_variables(command)
        begin = time.monotonic()
        if self.way == "pipe":
            reading, writing = os.pipe()
        else:
            reading, writing = pty.openpty()
            fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            call,
            cwd=self.folder,
            env=variables,
            stdin=subprocess.DEVNULL if self.way == "pipe" else writing,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        os.close(writing)
        text = _read(reading, process, begin + limit)
        os.close(reading)
        status = process.wait()
        return Outcome(status, text, time.monotonic() - begin)

    def _all_variables(self, command: str) -> dict[str, str]:
        """The variables of a new shell: none that say how wide or how coloured to print."""
        ours = ("TWINGRAD_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "COLUMNS", "LINES", "JAX_", "XLA_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            **self.variables,
            "HOME": str(self.folder),
            "NO_COLOR": "1",
            "TERM": "xterm",
            "WALK_COMMAND": command,
            "WALK_STATE": str(self.folder / ".walk-state"),
        }


def _read(reading: int, process: "subprocess.Popen[bytes]", deadline: float) -> str:
    """All that a process writes, until it and its children have closed what they write to."""
    received = bytearray()
    while True:
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            received += b"\nstopped: it took too long\n"
            break
        ready, _, _ = select.select([reading], [], [], 0.5)
        if not ready:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(reading, 65536)
        except OSError:  # a terminal that nobody has open any more
            break
        if not part:
            break
        received += part
    return received.decode("utf-8", "replace")
