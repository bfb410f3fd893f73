"""Checkpoints read from the disk: every byte verified before any of it is used."""

import hashlib
import os
import reprlib
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from shared import files
from shared.checkpoint.format import (
    FILES,
    FORMAT,
    FREE_FORM,
    STATE,
    VERSION,
    Checkpoint,
    is_sealed,
    step_of,
)
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.files import Json, JsonObject
from shared.params import gpt2_shapes
from shared.safetensors_io import Stored

_KINDS: dict[str, type] = {
    "step": int,
    "framework": str,
    "model": dict,
    "train": dict,
    **dict.fromkeys(FREE_FORM, dict),
    "files": dict,
}
# Fields that checkpoints lack which are older than training in several processes.
_ONE_PROCESS = {"data_parallel": 1, "sharded": 1}

Config = TypeVar("Config", GPTConfig, AdamWConfig, TrainConfig)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in the folder ``path``, every byte verified.

    Its tensors are checked one by one and not kept in memory: each is read again when it is looked
    up. Raises ``ValueError`` naming the file that is absent, cut short, damaged, of another format
    version, or that holds other tensors than its configuration has.
    """
    path = Path(path)
    state = verify(path)
    where = path / STATE
    model = _config(GPTConfig, state["model"], where)
    optimizer = state["train"].get("optimizer")
    if not isinstance(optimizer, dict):
        raise ValueError(f"{where} has optimizer {optimizer!r}: expected an object of settings")
    train = _ONE_PROCESS | state["train"]
    train["optimizer"] = _config(AdamWConfig, optimizer, where)
    shapes = gpt2_shapes(model)
    tensors = {group: Stored(path / file, shapes) for group, file in FILES.items()}
    try:
        return Checkpoint(
            step=state["step"],
            params=tensors["params"],
            first_moment=tensors["first_moment"],
            second_moment=tensors["second_moment"],
            model=model,
            train=_config(TrainConfig, train, where),
            framework=state["framework"],
            **{name: state[name] for name in FREE_FORM},
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def verify(path: Path) -> JsonObject:
    """The content of ``state.json``, which is undamaged, as is every file beside it."""
    state = _read_state(path / STATE)
    step = step_of(path.name)
    if step is not None and step != state["step"]:
        raise ValueError(f"{path} holds step {state['step']}: give it the name of its own step")
    for file in FILES.values():
        _verify_file(path / file, state["files"][file])
    return state


def _read_state(path: Path) -> JsonObject:
    """The content of ``state.json``: its digest is right, and every field there of its type."""
    try:
        content = files.read_bytes(path)
        state = files.parse_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} does not exist: give a checkpoint folder, step-...") from None
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror or error}: check its permissions"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not readable JSON ({error}): resume from another checkpoint"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not the state of a {FORMAT}: resume from another one")
    if state.get("version") != VERSION:
        raise ValueError(
            f"{path} is of format version {reprlib.repr(state.get('version'))}: "
            f"this twingrad reads version {VERSION}, so use the one that wrote it"
        )
    if not is_sealed(content):
        raise ValueError(f"{path} is damaged, its sha256 differs: resume from another checkpoint")
    for name, kind in _KINDS.items():
        if name not in state:
            raise ValueError(f"{path} has no {name!r}: resume from another checkpoint")
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            raise ValueError(
                f"{path} has {name} {reprlib.repr(state[name])}: expected {kind.__name__}"
            )
    if set(state["files"]) != set(FILES.values()):
        raise ValueError(
            f"{path} names the files {reprlib.repr(sorted(state['files']))}: "
            f"expected {', '.join(FILES.values())}"
        )
    return state


def _verify_file(path: Path, expected: Json) -> None:
    """Compare size and SHA-256 of the file ``path`` with ``expected``, from ``state.json``."""
    try:
        size = files.require_regular(path)
        if not isinstance(expected, dict) or size != expected.get("bytes"):
            asked = expected.get("bytes") if isinstance(expected, dict) else expected
            raise ValueError(
                f"{path} has {size} bytes, expected {asked!r}: resume from another checkpoint"
            )
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: resume from another checkpoint") from None
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror or error}: check its permissions"
        ) from None
    if digest != expected.get("sha256"):
        raise ValueError(f"{path} is damaged, its sha256 differs: resume from another checkpoint")


def _config(kind: type[Config], raw: JsonObject, path: Path) -> Config:
    """``raw`` as a configuration; every field is required, since a default may have changed."""
    for field in fields(kind):
        if field.name not in raw:
            raise ValueError(f"{path} has no {field.name!r} in its {kind.__name__}: it is too old")
    for name in raw.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"{path} has {name!r} in its {kind.__name__}, which has no such field")
    try:
        return kind(**raw)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has a wrong {kind.__name__}: {error}") from None


def is_good(path: Path) -> bool:
    """Whether the folder ``path`` holds an undamaged checkpoint."""
    try:
        verify(path)
    except ValueError:
        return False
    return True
