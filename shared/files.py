"""Files of other programs, read whole or not at all; the border where foreign JSON comes in."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, TypeAlias

from shared.whole import whole_file

# A value parsed from JSON: None, bool, int, float, str, or a list or dict of such. Its reader
# checks what it is before relying on it, which no checker of types can see.
Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all. Raises ``ValueError`` if it cannot."""
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None


# Bytes of the largest file that is read whole. A checkpoint's state has some megabytes.
LARGEST = 1 << 28


def require_regular(path: str | os.PathLike[str]) -> int:
    """The size in bytes of the file ``path``.

    Raises ``OSError`` for a pipe, where reading would wait, and a device, which may never end.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a name that no file can have, such as one with a zero byte
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
    return status.st_size


def read_bytes(path: str | os.PathLike[str], largest: int = LARGEST) -> bytes:
    """Content of a regular file. Raises ``OSError``, before reading if it is too large."""
    size = require_regular(path)
    if size > largest:
        raise OSError(
            errno.EFBIG, f"it has {size} bytes, over the {largest} that are read", os.fspath(path)
        )
    return Path(path).read_bytes()


def parse_json(content: bytes, **named: Any) -> Json:
    """The value of the JSON text ``content``, UTF-8; ``named`` goes to ``json.loads``.

    Raises ``ValueError``, also for bytes that are not UTF-8 and for JSON nested too deeply.
    """
    try:
        return json.loads(content.decode(), **named)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | os.PathLike[str], largest: int = LARGEST, **named: Any) -> Json:
    """The JSON value in the file ``path``. Raises ``OSError`` or ``ValueError``."""
    return parse_json(read_bytes(path, largest), **named)


def read_object(path: str | os.PathLike[str], remedy: str) -> JsonObject:
    """The JSON object in ``path``. Raises ``ValueError``, which ends in ``remedy``."""
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object: {remedy}")
    return value
