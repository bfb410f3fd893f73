"""Checkpoints written whole or not at all.

A checkpoint is written under a hidden name, flushed to the disk, then renamed, so that a run that
is killed at any moment leaves whole checkpoints only.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np

from shared.checkpoint.folders import flush, hidden, place, sweep
from shared.checkpoint.format import (
    FILES,
    FORMAT,
    FREE_FORM,
    STATE,
    VERSION,
    Checkpoint,
    Progress,
    folder_name,
    seal,
)
from shared.files import JsonObject
from shared.params import Shapes, check, check_tensor, gpt2_shapes

_DTYPES = {"float32": "F32", "float64": "F64"}

# Group, canonical name and value of one tensor.
Tensor = tuple[str, str, np.ndarray]
# Name, dtype and shape of the tensors of a file, in the order of their bytes.
Header = dict[str, tuple[np.dtype, tuple[int, ...]]]
Pieces = Iterable[bytes | memoryview]


class NotFinite(ValueError):
    """A tensor of a checkpoint that holds NaN or infinity; says which, and at which step."""


def save(folder: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Write ``folder/step-000100`` whole or not at all, and return its path.

    A checkpoint already there is kept if it is good and identical, otherwise replaced. Leftovers of
    killed processes are cleared. Raises ``ValueError`` when a tensor does not belong in the
    checkpoint or the folder cannot be written; the folder is then as it was.
    """
    groups = _checked(checkpoint)
    contents = {group: _safetensors(_header(values), _ordered(values)) for group, values in groups}
    return _save(Path(folder), checkpoint, contents.items())


def save_each(
    folder: str | os.PathLike[str], progress: Progress, tensors: Iterable[Tensor]
) -> Path:
    """Write the same as ``save`` from ``tensors`` that come one at a time and are not kept.

    They come group by group, each in canonical order and of one dtype. Raises ``ValueError`` as
    ``save`` does, and for a tensor that is missing or out of order.
    """
    return _save(Path(folder), progress, _groups(progress, iter(tensors)))


def _save(folder: Path, progress: Progress, contents: Iterable[tuple[str, Pieces]]) -> Path:
    final = folder / folder_name(progress.step)
    new = hidden(final, "new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        new.mkdir()
        try:
            _write(new, progress, contents)
            place(new, final)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise ValueError(
            f"cannot write {final}: {error.strerror or error}: free space or choose another folder"
        ) from None
    return final


def _checked(checkpoint: Checkpoint) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The three groups of tensors by their names, in canonical order."""
    shapes = gpt2_shapes(checkpoint.model)
    groups = []
    for group in FILES:
        tensors: Mapping[str, np.ndarray] = getattr(checkpoint, group)
        for name, value in tensors.items():
            _check_value(group, name, value, checkpoint.step)
        try:
            groups.append((group, check(tensors, shapes)))
        except ValueError as error:
            raise ValueError(f"{group}: {error}") from None
    return groups


def _check_value(group: str, name: str, value: np.ndarray, step: int) -> None:
    if value.dtype.name not in _DTYPES:
        raise ValueError(
            f"{group} has {name!r} as {value.dtype}: "
            "a checkpoint holds float32 or float64, so convert it first"
        )
    if not np.isfinite(value).all():
        raise NotFinite(
            f"{group} has NaN or infinity in {name!r} at step {step}: "
            "the training diverged, so go back to an earlier checkpoint"
        )


def _header(tensors: Mapping[str, np.ndarray]) -> Header:
    # The wider first, as safetensors itself has them: each then starts at a multiple of its width.
    names = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    return {name: (tensors[name].dtype, tensors[name].shape) for name in names}


def _ordered(tensors: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    return (tensors[name] for name in _header(tensors))


def _groups(progress: Progress, tensors: Iterator[Tensor]) -> Iterator[tuple[str, Pieces]]:
    """The three files from ``tensors``; a group's first tensor gives the dtype for its header."""
    shapes = gpt2_shapes(progress.model)
    for group in FILES:
        values = _of_one_group(group, shapes, progress.step, tensors)
        first = next(values)
        entries = {name: (first.dtype, shape) for name, shape in shapes.items()}
        yield group, _safetensors(entries, chain([first], values))


def _of_one_group(
    group: str, shapes: Shapes, step: int, tensors: Iterator[Tensor]
) -> Iterator[np.ndarray]:
    dtype = None
    for name, shape in shapes.items():
        came, called, value = next(tensors, ("nothing", "more", np.zeros(0)))
        if (came, called) != (group, name):
            raise ValueError(f"{came} {called!r} came where {group} {name!r} was expected")
        _check_value(group, name, value, step)
        try:
            check_tensor(name, value, shape)
        except ValueError as error:
            raise ValueError(f"{group}: {error}") from None
        dtype = dtype or value.dtype
        if value.dtype != dtype:
            raise ValueError(f"{group} has {name!r} as {value.dtype}: expected {dtype} as before")
        yield value


def _write(folder: Path, progress: Progress, contents: Iterable[tuple[str, Pieces]]) -> None:
    """Fill ``folder`` and flush it to the disk."""
    state: JsonObject = {
        "format": FORMAT,
        "version": VERSION,
        "step": progress.step,
        "framework": progress.framework,
        "model": asdict(progress.model),
        "train": asdict(progress.train),
        **{name: getattr(progress, name) for name in FREE_FORM},
        "files": {
            FILES[group]: _write_pieces(folder / FILES[group], pieces) for group, pieces in contents
        },
    }
    _write_pieces(folder / STATE, [seal(state)])
    flush(folder)


def _safetensors(entries: Header, values: Iterable[np.ndarray]) -> Iterator[bytes | memoryview]:
    """The pieces of a safetensors file; at most one tensor is copied at a time."""
    header: JsonObject = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (dtype, shape) in entries.items():
        end = start + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _DTYPES[dtype.name], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for value in values:
        little = value.dtype.newbyteorder("<")
        yield np.asarray(value, little, order="C").reshape(-1).view(np.uint8).data


def _write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> JsonObject:
    """Write ``pieces`` and flush them to the disk; size and SHA-256 of what was written."""
    size, digest = 0, hashlib.sha256()
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": size, "sha256": digest.hexdigest()}
