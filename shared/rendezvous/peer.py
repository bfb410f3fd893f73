"""The connection to another process: messages as lines of JSON."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass

from shared.files import Json, JsonObject

# Messages are short: a longer line does not come from a process of ours.
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits in seconds.

    ``beat`` is the time between two beats, ``silence`` the longest time without one, ``patience``
    the longest time for which a process may be behind or absent, and ``grace`` the time for the
    others to hear of an end.
    """

    beat: float = 1.0
    silence: float = 10.0
    patience: float = 300.0
    grace: float = 5.0


class Peer:
    """The connection to another process, with the last report of its state."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        connection.settimeout(limits.silence)
        self.socket = connection
        self.rank, self.host = 0, ""
        self.step, self.advanced, self.place = 0, 0, ""
        self.heard = self.moved = time.monotonic()
        self.agreed = threading.Event()
        self.has_left = False
        self._unread = b""
        self._sending = threading.Lock()

    def __str__(self) -> str:
        return f"rank {self.rank} on host {self.host}"

    @property
    def is_open(self) -> bool:
        """Whether this end has not been closed."""
        return self.socket.fileno() >= 0

    def send(self, **message: Json) -> None:
        """Send ``message``. A connection that is down is noticed by ``receive``."""
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, most: int = -1) -> list[JsonObject] | None:
        """The messages that have arrived; ``None`` at the end of the connection, or for other data.

        All behind the first ``most`` are left for the next call.
        """
        try:
            piece = self.socket.recv(1 << 16)
            *lines, self._unread = (self._unread + piece).split(b"\n", most)
            messages = [json.loads(line) for line in lines]
        except (OSError, ValueError, RecursionError):
            return None
        whole = all(isinstance(message, dict) for message in messages)
        return messages if piece and whole and len(self._unread) < _LONGEST_LINE else None
