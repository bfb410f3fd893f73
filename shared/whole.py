"""Files and folders that appear whole or not at all, and leave nothing behind.

Both are made under a hidden name beside their place, and renamed at the end. Until then they are
locked: whoever writes the same name next can tell what a killed process has left, and removes it.

This module is in ``shared`` and in ``twingrad``, of which neither imports the other.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".twingrad"
# Characters of a name that its hidden one has too: the system takes no name over 255 bytes.
_SHOWN = 40


@contextmanager
def whole_file(path: str | os.PathLike[str], durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which is at ``path`` once the block ends; if it raises, nothing has changed.

    Of a link, the file that it leads to is replaced. A file's mode is kept, and its owner where the
    system allows that; a new file's mode follows the umask. A pipe or a device is written into, as
    is the file that stdout or stderr goes to. It outlives a loss of power where it is ``durable``.
    Raises ``OSError``.
    """
    target = Path(os.path.realpath(path))
    found = _status(target)
    if found is not None and (stream := _into(path, found)) is not None:
        with stream:
            yield stream
        return
    sweep(target)
    mode = 0o666 if found is None else 0o600  # what it is to have is set before it appears
    handle, hidden = _locked(target, lambda place: os.open(place, _NEW, mode))
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if found is not None:
                _dress(handle, found)
            if durable:
                os.fsync(handle)
            os.replace(hidden, target)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which is at ``path`` once the block ends, and nowhere if it raises.

    An empty folder may be at ``path`` already. Raises ``OSError``.
    """
    target = Path(path).absolute()
    sweep(target)
    handle, hidden = _locked(target, _made)
    try:
        yield hidden
        os.replace(hidden, target)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(handle)


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder of this user's own among the system's temporary files, gone once the block ends.

    What killed processes have left of those with the same ``name`` goes first. Raises ``OSError``.
    """
    target = Path(tempfile.gettempdir(), name).absolute()
    sweep(target)
    handle, hidden = _locked(target, lambda place: _made(place, 0o700))
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(handle)


def sweep(target: Path) -> None:
    """Remove what killed processes of this user have left of ``target`` beside it."""
    _sweep(target.parent, re.escape(target.name[:_SHOWN]))


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes of this user have left in ``folder``, whatever it was for."""
    _sweep(folder, ".+")


def _sweep(folder: Path, name: str) -> None:
    ours = re.compile(rf"\.{name}\.[0-9a-f]{{16}}{re.escape(_SUFFIX)}")
    with suppress(OSError):
        for found in filter(ours.fullmatch, os.listdir(folder)):
            _remove_abandoned(folder / found)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _made(place: Path, mode: int = 0o777) -> int:
    place.mkdir(mode)
    return os.open(place, os.O_RDONLY)


def _status(path: Path) -> os.stat_result | None:
    """What is at ``path``; ``OSError`` for links in a circle and for a folder."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    return found


def _into(path: str | os.PathLike[str], found: os.stat_result) -> BinaryIO | None:
    """A stream into what must not be replaced; None for a file that can be."""
    for number in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(number)):
                for written in (sys.stdout, sys.stderr):
                    if written is not None:
                        written.flush()
                return os.fdopen(os.dup(number), "wb")
    return None if stat.S_ISREG(found.st_mode) else open(path, "wb")


def _dress(handle: int, found: os.stat_result) -> None:
    """Give the new file the owner and the mode of the one that it replaces."""
    with suppress(OSError):  # of a file that is somebody else's
        os.fchown(handle, found.st_uid, found.st_gid)
    os.fchmod(handle, stat.S_IMODE(found.st_mode) & 0o777)


def _locked(target: Path, make: Callable[[Path], int]) -> tuple[int, Path]:
    """What ``make`` makes beside ``target`` under a new hidden name, open and locked."""
    while True:
        name = f".{target.name[:_SHOWN]}.{secrets.token_hex(8)}{_SUFFIX}"
        place = target.with_name(name)
        handle = make(place)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return handle, place
        os.close(handle)  # another process took it for abandoned before it was locked


def _lock(handle: int, wait: bool) -> bool:
    """Lock an open file; False where another process has, or the system has no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def _remove_abandoned(place: Path) -> None:
    """Remove ``place`` unless the process that makes it is alive, or another user's."""
    with suppress(OSError):
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(handle)
            if found.st_uid != os.geteuid() or not _lock(handle, wait=False):
                return
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink()
        finally:
            os.close(handle)
