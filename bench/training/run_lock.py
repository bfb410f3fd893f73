"""One training at a time in a run folder: the lock of the process that writes there."""

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from shared.whole import sweep_folder
from shared.world import World

FILE = "run.lock"
# Bytes read of what the holder has written about itself.
_MOST = 200


class RunLock:
    """The lock of the run folder ``folder``, a file that is gone when the run has ended.

    Of the processes of a run rank 0 holds it, as it alone writes. The system lets go of it when its
    holder dies, however that happens, so that what a dead process left is taken over. Use it as a
    context.
    """

    def __init__(self, folder: Path, world: World):
        self.folder, self.path = folder, folder / FILE
        self._is_writer = world.rank == 0
        self._handle: int | None = None

    def take(self) -> None:
        """Take it unless this process has it. Raises ``ValueError`` that names who holds it."""
        if not self._is_writer or self._handle is not None:
            return
        try:
            self._handle = self._taken()
            sweep_folder(self.folder)
        except BlockingIOError:
            raise ValueError(
                f"{self.folder} is being trained in by {self._holder()}: wait until that has "
                "ended, stop it, or choose another --out"
            ) from None
        except OSError as error:
            raise ValueError(
                f"cannot write {self.path}: {error.strerror or error}: choose another --out"
            ) from None

    def _taken(self) -> int:
        """The open file, locked, with a line about this process."""
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_its_place(handle):
                    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
                    line = f"process {os.getpid()} on {os.uname().nodename} since {since}\n"
                    os.truncate(handle, 0)
                    os.write(handle, line.encode())
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # the run before has ended just now, and removed it

    def _is_at_its_place(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _holder(self) -> str:
        """What the holder says of itself."""
        try:
            line = self.path.read_bytes()[:_MOST].decode(errors="replace").strip()
        except OSError:
            line = ""
        return line or "another process"

    def release(self) -> None:
        """Remove the file, and let go of it."""
        if self._handle is not None:
            with suppress(OSError):
                self.path.unlink()
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
