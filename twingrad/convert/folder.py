"""Folders of converted checkpoints: what lies in them, and where one can be made."""

import os
from collections.abc import Mapping
from pathlib import Path

from twingrad.convert.orbax_folder import MARK, OrbaxFolder, Place
from twingrad.convert.source import Source
from twingrad.convert.torch_source import SAFETENSORS, SafetensorsFile
from twingrad.suggestions import nearby_file

WEIGHTS = "model.safetensors"
ORBAX = "orbax"
# Where a checkpoint manager of Orbax's has the one tree of a step.
_OF_MANAGER = "default"
# PyTorch's tensors that JAX has no place for, for the way back.
TORCH_ONLY = "torch_only.safetensors"


def open_jax(path: Path, names: Mapping[Place, str]) -> Source:
    """The JAX checkpoint at ``path``: a safetensors file, an Orbax folder, or one that has them.

    ``names`` are tensors' by their place in an Orbax tree. Raises ``ValueError`` for anything else.
    """
    if path.is_dir():
        if (path / WEIGHTS).is_file():
            return SafetensorsFile(path / WEIGHTS)
        folders = (path, *(path / name for name in (ORBAX, _OF_MANAGER)))
        folder = next((folder for folder in folders if (folder / MARK).is_file()), None)
        if folder is None:
            raise ValueError(
                f"{path} holds no {WEIGHTS} and is no folder of Orbax, which has a file {MARK}: "
                "give what --to jax wrote, or what Orbax saved"
            )
        return OrbaxFolder(folder, names)
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint {path}:{nearby_file(path)} give a file or a folder"
        )
    if path.suffix != SAFETENSORS:
        raise ValueError(
            f"{path} is no JAX checkpoint: give a {SAFETENSORS} file or Orbax's folder"
        )
    return SafetensorsFile(path)


def open_beside(path: Path) -> Source | None:
    """What ``--to jax`` kept of PyTorch's beside the JAX checkpoint at ``path``, if it did."""
    file = next((f / TORCH_ONLY for f in (path, path.parent) if (f / TORCH_ONLY).is_file()), None)
    return None if file is None else SafetensorsFile(file)


def require_new(path: Path) -> None:
    """Raise ``ValueError`` unless a folder can be made at ``path``; an empty one may be there."""
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{path} is not empty: name another folder, nothing is overwritten")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a folder")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {parent} does not exist; create it")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write {path}: no permission to write in {parent}")
