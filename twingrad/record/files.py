"""Records as folders: ``record.json`` says what there is, ``tensors.safetensors`` has the numbers.

A tensor's name is the SHA-256 of its dtype, shape and bytes, and the tensors' file holds that of
``record.json``: a record that was cut off, damaged or changed by hand is not read.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

from twingrad.environment import install_command
from twingrad.foreign import Array
from twingrad.record.codec import Tensors, decode, digest, encode
from twingrad.record.content import VERSION, Content, require_consistent
from twingrad.whole import whole_folder

JSON, TENSORS = "record.json", "tensors.safetensors"
FORMAT = "twingrad record"
_DIGEST = "record.json sha256"
GIB = 2**30


def require_safetensors() -> None:
    """Raise ``ValueError`` with what to install where safetensors is missing."""
    if importlib.util.find_spec("safetensors") is None:
        raise ValueError(f"records need safetensors: {install_command('record')}")


def require_new(folder: Path) -> None:
    """Raise ``ValueError`` if ``folder`` exists or cannot be made."""
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} exists already: choose another name, or remove it")
    if not folder.parent.is_dir():
        raise ValueError(
            f"cannot write {folder}: the folder {folder.parent} does not exist; create it"
        )


def write(folder: Path, content: Content, most_gib: float) -> int:
    """Write a record, whole or not at all; its size in bytes.

    Raises ``ValueError`` where ``folder`` exists or cannot be written, and for a record of more
    than ``most_gib`` GiB.
    """
    require_new(folder)
    tensors = Tensors()
    body = {"format": FORMAT, "version": VERSION, "record": encode(content, tensors)}
    text = json.dumps(body, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    require_small(tensors.size + len(text), most_gib)
    from safetensors.numpy import save_file

    try:
        with whole_folder(folder) as made:
            (made / JSON).write_bytes(text)
            metadata = {_DIGEST: hashlib.sha256(text).hexdigest()}
            save_file(tensors.by_name, made / TENSORS, metadata)
            (made / TENSORS).chmod((made / JSON).stat().st_mode)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from None
    return tensors.size + len(text)


def require_small(size: int, most_gib: float) -> None:
    """Raise ``ValueError`` if a record of ``size`` bytes is over the limit."""
    if size > most_gib * GIB:
        raise ValueError(
            f"the record would have about {size / GIB:.2g} GiB, and the limit is {most_gib:g} GiB: "
            "record fewer modules with --only REGEX, or raise the limit with --limit"
        )


def read(folder: Path) -> Content:
    """The record in ``folder``. Raises ``ValueError`` where there is none, or it is damaged."""
    for name in (JSON, TENSORS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is no record: it has no {name}; make one with twingrad record"
            )
    require_safetensors()
    try:
        text = (folder / JSON).read_bytes()
        tensors, metadata = _tensors(folder / TENSORS)
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror or error}") from None
    if metadata.get(_DIGEST) != hashlib.sha256(text).hexdigest():
        raise _damaged(folder, f"{JSON} is not the one that was written with {TENSORS}")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(folder, f"{JSON} is no JSON") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise _damaged(folder, f"{JSON} says nothing of a record")
    if body.get("version") != VERSION:
        raise ValueError(
            f"{folder} is a record of version {body.get('version')!r:.20}, and this twingrad reads "
            f"version {VERSION}: record it again with the same twingrad on both machines"
        )
    try:
        content = decode(Content, body.get("record"), tensors)
        require_consistent(content)
    except ValueError as error:
        raise _damaged(folder, str(error)) from None
    return content


def _tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Every tensor of the file, held against its name, and what the file says beside them."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Array] = {}
    try:
        with safe_open(path, framework="np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors |= {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path.parent, f"{TENSORS}: {error!s:.200}") from None
    for name, x in tensors.items():
        if digest(x) != name:
            raise _damaged(path.parent, f"tensor {name:.12} of {TENSORS} has other numbers")
    return tensors, metadata


def _damaged(folder: Path, what: str) -> ValueError:
    return ValueError(f"{folder} is damaged or was changed by hand ({what}): record it again")
