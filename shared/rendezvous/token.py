"""The token of a run: what its processes know, and nobody else who can reach their port.

``twingrad train`` hands one to the processes that it starts, by the variable
``TWINGRAD_RUN_TOKEN``, which may also be set for all of them by whoever starts them. Where it is
not, rank 0 writes a new one to a private file beside the run's folder, which all processes see.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "TWINGRAD_RUN_TOKEN"
# Bytes of a token that are looked at.
_MOST = 1 << 10


def new() -> str:
    """A token that cannot be guessed: 32 random bytes, as hexadecimal digits."""
    return secrets.token_hex(32)


@contextmanager
def agreed(folder: Path, rank: int, environ: Mapping[str, str]) -> Iterator[Callable[[], str]]:
    """Within, what gives the token of the run in ``folder``; rank 0's file is removed at the end.

    It raises ``OSError`` while rank 0 has written none, and ``ValueError`` for a file that others
    can read.
    """
    given = environ.get(VARIABLE)
    if given:
        yield lambda: given
        return
    path = folder.absolute().parent / f".{folder.name}.token"
    if rank:
        yield lambda: _read(path)
        return
    token = new()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, token)
        yield lambda: token
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, token: str) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write(token)


def _read(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise OSError(f"rank 0 has written no token to {path}") from None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ValueError(
                f"{path} belongs to somebody else, or can be read by others: remove it, or set "
                f"{VARIABLE} for every process of the run"
            )
        token = file.read(_MOST).decode(errors="replace")
    if not token:
        raise OSError(f"rank 0 has written no token to {path}")
    return token
