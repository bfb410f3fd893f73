"""Files written whole or not at all, and JSON in a form whose changes can be read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from twingrad.whole import whole_file


def write_bytes(path: str | os.PathLike[str], content: bytes, durable: bool = True) -> None:
    """Write ``content`` to ``path`` whole or not at all; ``ValueError`` says why it cannot be.

    It outlives a loss of power where it is ``durable``; else that of this process alone, which
    costs no wait for the disk. Links are followed, and pipes and devices written into; see
    ``whole_file``.
    """
    try:
        with whole_file(path, durable) as file:
            file.write(content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None


def write_json(
    path: str | os.PathLike[str], content: Mapping[str, object], durable: bool = True
) -> None:
    """Write ``content`` as a JSON object, whole or not at all, with a line an innermost object.

    Raises ``ValueError`` for a file that cannot be written and for NaN, which JSON does not have.
    """
    write_bytes(path, (json_text(content) + "\n").encode(), durable)


def json_text(value: object, indent: str = "") -> str:
    """JSON of ``value`` with a line for each innermost object, so that a diff can be read."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
        items = [f"{inner}{json.dumps(k)}: {json_text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        items = [inner + json_text(v, inner) for v in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def require_writable(*paths: Path | None) -> None:
    """Raise ``ValueError`` for a path that could not be written after minutes of work."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder; name a file")
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"cannot write {path}: no permission to write to it")
        if path.exists() and not path.is_file():
            continue  # a pipe or a device is written into
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        if not folder.is_dir():
            raise ValueError(f"cannot write {path}: the folder {folder} does not exist; create it")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"cannot write {path}: no permission to write in {folder}")
