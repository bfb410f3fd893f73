"""Token ids that stay in their file: every read notices a file that has changed meanwhile."""

import os
import weakref
from pathlib import Path

import numpy as np
from jaxtyping import Integer


class ChangedFile(ValueError):
    """A file of tokens that was changed or cut off after it had been opened."""


class FileTokens:
    """Token ids [N] of one dtype in a file, of which a slice reads its own stretch and no more.

    They are read and not mapped: to touch a mapped page that a file has no more kills the process.
    Raises ``ChangedFile`` for a slice of a file that is no longer as it was opened, ``ValueError``
    for a slice with a step, and ``OSError`` where the file cannot be opened.
    """

    def __init__(self, path: Path, dtype: str, offset: int = 0) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        self._opened = os.fstat(self._handle)
        self._whole: FileTokens | None = None
        self._first = offset
        self._count = (self._opened.st_size - offset) // self.dtype.itemsize

    def __len__(self) -> int:
        return self._count

    def part(self, start: int, stop: int) -> "FileTokens":
        """The ids from ``start`` up to, not including, ``stop``, still in the file."""
        start, stop, _ = slice(start, stop).indices(len(self))
        part = object.__new__(FileTokens)
        part.path, part.dtype, part._handle = self.path, self.dtype, self._handle
        part._opened, part._whole = self._opened, self  # which closes the file at its end
        part._first = self._first + start * self.dtype.itemsize
        part._count = max(stop - start, 0)
        return part

    def __getitem__(self, where: slice) -> Integer[np.ndarray, "N"]:
        start, stop, step = where.indices(len(self))
        if step != 1:
            raise ValueError(f"a slice has step {step}: expected 1")
        content = bytearray(max(stop - start, 0) * self.dtype.itemsize)
        view, place = memoryview(content), self._first + start * self.dtype.itemsize
        while view:
            read = os.preadv(self._handle, [view], place)
            if read == 0:
                break
            view, place = view[read:], place + read
        now = os.fstat(self._handle)
        if view or (now.st_size, now.st_mtime_ns) != (
            self._opened.st_size,
            self._opened.st_mtime_ns,
        ):
            raise ChangedFile(
                f"{self.path} has changed since it was opened, from {self._opened.st_size} to "
                f"{now.st_size} bytes: restore it as it was"
            )
        return np.frombuffer(content, self.dtype)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
