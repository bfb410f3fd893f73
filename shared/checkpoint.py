"""Checkpoints that either framework writes and either reads, whole or not at all.

A checkpoint is a folder ``step-000100``: the parameters and AdamW's two moments as safetensors, in
canonical names and layout, and ``state.json`` with everything else, each file's size and SHA-256,
and a SHA-256 of its own. It is written under a hidden name, flushed to the disk, then renamed, so
that a run killed at any moment leaves whole checkpoints only.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import reprlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from shared import files
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.params import Shapes, check, check_tensor, gpt2_shapes
from shared.safetensors_io import Stored

FORMAT = "twingrad checkpoint"
VERSION = 1

# Only these names are ever opened, whatever state.json says.
_STATE = "state.json"
_FILES = {name: f"{name}.safetensors" for name in ("params", "first_moment", "second_moment")}
_DTYPES = {"float32": "F32", "float64": "F64"}
_FREE_FORM = ("data", "tokenizer", "random", "extra")
_KINDS: dict[str, type] = {
    "step": int,
    "framework": str,
    "model": dict,
    "train": dict,
    **dict.fromkeys(_FREE_FORM, dict),
    "files": dict,
}
# Hidden folders carry the process that made them: "new" is being written, "aside" was whole and is
# being replaced, "gone" is being deleted.
_HIDDEN = re.compile(r"\.(?P<name>step-[0-9]+)\.(?P<kind>new|aside|gone)\.(?P<pid>[0-9]+)")
# What a checkpoint says that was written before training could be spread over processes.
_ONE_PROCESS = {"data_parallel": 1, "sharded": 1}
_DIGEST_LENGTH = 64
_END = b'"\n}\n'

Config = TypeVar("Config", GPTConfig, AdamWConfig, TrainConfig)


# Group, canonical name and value of one tensor.
Tensor = tuple[str, str, np.ndarray]
# Name, dtype and shape of the tensors of a file, in the order in which they are in it.
Layout = dict[str, tuple[np.dtype, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """A training after ``step`` steps, in words that both frameworks understand: all but tensors.

    ``framework`` writes it down. ``data`` is the loader's state, ``random`` the generator's,
    ``extra`` the run's own; these and ``tokenizer`` are plain JSON.
    """

    step: int
    model: GPTConfig
    train: TrainConfig
    framework: str
    data: dict[str, Any]
    tokenizer: dict[str, Any]
    random: dict[str, Any]
    extra: dict[str, Any]

    def __post_init__(self) -> None:
        whole = isinstance(self.step, int) and not isinstance(self.step, bool)
        if not whole or self.step < 0:
            raise ValueError(f"step is {self.step!r}: expected a whole number, 0 or more")
        if not isinstance(self.framework, str) or not self.framework:
            raise ValueError(f"framework is {self.framework!r}: expected torch or jax")
        for name in _FREE_FORM:
            value = getattr(self, name)
            if not isinstance(value, dict) or not _is_json(value):
                raise ValueError(
                    f"{name} is {reprlib.repr(value)}, which JSON does not give back unchanged: "
                    "expected a dict of lists, strings, finite numbers, true, false and None"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint(Progress):
    """A training with its tensors: ``params`` and AdamW's moments, float32 or float64.

    They are under canonical names; those of a checkpoint on the disk are read one at a time,
    whenever they are asked for.
    """

    params: Mapping[str, np.ndarray]
    first_moment: Mapping[str, np.ndarray]
    second_moment: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A good checkpoint, and the folder that it was read from."""

    path: Path
    checkpoint: Checkpoint


def differences(stored: Config, asked: Config) -> list[str]:
    """Fields in which two configurations of one class differ, as ``n_layers 2, asked 4``."""
    texts = []
    for field in fields(stored):
        was: Any = getattr(stored, field.name)
        wanted: Any = getattr(asked, field.name)
        if is_dataclass(was):
            texts += differences(was, wanted)
        elif was != wanted:
            texts.append(f"{field.name} {was}, asked {wanted}")
    return texts


# Writing


def save(folder: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    """Write ``folder/step-000100`` whole or not at all, and return its path.

    A checkpoint already there is kept if it is good and identical, otherwise replaced. Leftovers of
    killed processes are cleared. Raises ``ValueError`` when a tensor does not belong in the
    checkpoint or the folder cannot be written; nothing is lost or left behind then.
    """
    groups = _checked(checkpoint)
    contents = {group: _safetensors(_layout(values), _ordered(values)) for group, values in groups}
    return _save(Path(folder), checkpoint, contents.items())


def save_each(
    folder: str | os.PathLike[str], progress: Progress, tensors: Iterable[Tensor]
) -> Path:
    """Write what ``save`` writes from ``tensors``, which come one at a time and are not kept.

    They come group by group, each in canonical order and of one dtype. Raises ``ValueError``.
    """
    return _save(Path(folder), progress, _as_they_come(progress, iter(tensors)))


Pieces = Iterable[bytes | memoryview]


def _save(folder: Path, progress: Progress, contents: Iterable[tuple[str, Pieces]]) -> Path:
    final = folder / _name(progress.step)
    new = _hidden(final, "new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        new.mkdir()
        try:
            _write(new, progress, contents)
            _place(new, final)
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
    for group in _FILES:
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
        raise ValueError(
            f"{group} has NaN or infinity in {name!r} at step {step}: "
            "the training diverged, so go back to an earlier checkpoint"
        )


def _layout(tensors: Mapping[str, np.ndarray]) -> Layout:
    # The wider first, as safetensors itself has them: each then starts at a multiple of its width.
    names = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    return {name: (tensors[name].dtype, tensors[name].shape) for name in names}


def _ordered(tensors: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    return (tensors[name] for name in _layout(tensors))


def _as_they_come(progress: Progress, tensors: Iterator[Tensor]) -> Iterator[tuple[str, Pieces]]:
    """The three files, as ``tensors`` come; a header is made once a group's first is there."""
    shapes = gpt2_shapes(progress.model)
    for group in _FILES:
        values = _of_one_group(group, shapes, progress.step, tensors)
        first = next(values)
        layout = {name: (first.dtype, shape) for name, shape in shapes.items()}
        yield group, _safetensors(layout, chain([first], values))


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
    state: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "step": progress.step,
        "framework": progress.framework,
        "model": asdict(progress.model),
        "train": asdict(progress.train),
        **{name: getattr(progress, name) for name in _FREE_FORM},
        "files": {
            _FILES[group]: _write_pieces(folder / _FILES[group], pieces)
            for group, pieces in contents
        },
    }
    _write_pieces(folder / _STATE, [_sealed(state)])
    _flush(folder)


def _safetensors(layout: Layout, values: Iterable[np.ndarray]) -> Iterator[bytes | memoryview]:
    """The pieces of a safetensors file; at most one tensor is copied at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (dtype, shape) in layout.items():
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


def _write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
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


def _sealed(state: dict[str, Any]) -> bytes:
    """``state`` as JSON; the digest at its end is of all bytes but the digest's own 64."""
    blank = json.dumps(state | {"sha256": ""}, indent=2, allow_nan=False).encode() + b"\n"
    return blank[: -len(_END)] + hashlib.sha256(blank).hexdigest().encode() + _END


def _place(new: Path, final: Path) -> None:
    """Give ``new`` its ``final`` name; what had it stays to be found at every moment."""
    aside = None
    if final.is_dir():
        if _is_identical(new, final):
            return
        aside = _hidden(final, "aside")
        os.rename(final, aside)
    try:
        os.rename(new, final)
        _flush(final.parent)
    except OSError:
        if not new.exists():
            os.rename(final, new)
        if aside is not None:
            os.rename(aside, final)
        raise
    if aside is not None:
        with contextlib.suppress(OSError):  # left to the next sweep
            _discard(aside, final)


def _is_identical(new: Path, final: Path) -> bool:
    """Whether ``final`` is good and says the same, state.json having the SHA-256 of every file."""
    return _is_good(final) and (new / _STATE).read_bytes() == (final / _STATE).read_bytes()


def _discard(path: Path, final: Path) -> None:
    """Delete ``path`` so that no part of it is ever taken for the checkpoint ``final``."""
    gone = _hidden(final, "gone")
    os.rename(path, gone)
    _flush(gone.parent)
    _remove(gone)


def _remove(path: Path) -> None:
    """Delete ``path``; what the system refuses to delete is left to the next sweep."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Clear what killed processes left; a checkpoint set aside comes back if none replaced it."""
    for name in os.listdir(folder):
        hidden = _HIDDEN.fullmatch(name)
        if hidden is None or _is_another_alive(int(hidden["pid"])):
            continue
        final = folder / hidden["name"]
        with contextlib.suppress(OSError):
            if hidden["kind"] != "aside":
                _remove(folder / name)
            elif final.exists():
                _discard(folder / name, final)
            else:
                os.rename(folder / name, final)


def _is_another_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, under another user
        return True
    return True


def _flush(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Reading


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in the folder ``path``, every byte verified.

    Its tensors are checked one by one and not kept: they are read again when they are asked for.
    Raises ``ValueError`` in one sentence naming the file: absent, cut short, damaged, of another
    format version, or holding tensors that its own configuration has not.
    """
    path = Path(path)
    state = _verify(path)
    where = path / _STATE
    model = _config(GPTConfig, state["model"], where)
    optimizer = state["train"].get("optimizer")
    if not isinstance(optimizer, dict):
        raise ValueError(f"{where} has optimizer {optimizer!r}: expected an object of settings")
    train = _ONE_PROCESS | state["train"]
    train["optimizer"] = _config(AdamWConfig, optimizer, where)
    shapes = gpt2_shapes(model)
    tensors: dict[str, Any] = {group: Stored(path / file, shapes) for group, file in _FILES.items()}
    try:
        return Checkpoint(
            step=state["step"],
            **tensors,
            model=model,
            train=_config(TrainConfig, train, where),
            framework=state["framework"],
            **{name: state[name] for name in _FREE_FORM},
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _verify(path: Path) -> dict[str, Any]:
    """What ``state.json`` says, once it and every file beside it are known to be undamaged."""
    state = _read_state(path / _STATE)
    step = _step(path.name)
    if step is not None and step != state["step"]:
        raise ValueError(f"{path} holds step {state['step']}: give it the name of its own step")
    for file in _FILES.values():
        _verify_file(path / file, state["files"][file])
    return state


def _read_state(path: Path) -> dict[str, Any]:
    """``state.json``, its digest checked and every field there with its type."""
    try:
        content = files.read_bytes(path)
        state = files.parse_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} does not exist: give a checkpoint folder, step-...") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}: check its permissions") from None
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
    end = len(content) - len(_END)
    blank = content[: end - _DIGEST_LENGTH] + content[end:]
    if content[end - _DIGEST_LENGTH : end] != hashlib.sha256(blank).hexdigest().encode():
        raise ValueError(f"{path} is damaged, its sha256 differs: resume from another checkpoint")
    for name, kind in _KINDS.items():
        if name not in state:
            raise ValueError(f"{path} has no {name!r}: resume from another checkpoint")
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            raise ValueError(
                f"{path} has {name} {reprlib.repr(state[name])}: expected {kind.__name__}"
            )
    if set(state["files"]) != set(_FILES.values()):
        raise ValueError(
            f"{path} names the files {reprlib.repr(sorted(state['files']))}: "
            f"expected {', '.join(_FILES.values())}"
        )
    return state


def _verify_file(path: Path, expected: Any) -> None:
    """Hold size and SHA-256 of the file ``path`` against what ``state.json`` says of it."""
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
        raise ValueError(f"cannot read {path}: {error.strerror}: check its permissions") from None
    if digest != expected.get("sha256"):
        raise ValueError(f"{path} is damaged, its sha256 differs: resume from another checkpoint")


def _config(kind: type[Config], raw: dict[str, Any], path: Path) -> Config:
    """``raw`` as a configuration, with every field there: a default may have changed since."""
    for field in fields(kind):
        if field.name not in raw:
            raise ValueError(f"{path} has no {field.name!r} in its {kind.__name__}: it is too old")
    for name in raw.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"{path} has {name!r} in its {kind.__name__}, which has no such field")
    try:
        return kind(**raw)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has a wrong {kind.__name__}: {error}") from None


def _is_json(value: dict[str, Any]) -> bool:
    """Whether ``value`` comes back from JSON as it went in."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


# Folders of checkpoints


def steps(folder: str | os.PathLike[str]) -> list[int]:
    """Steps of the checkpoints in ``folder``, good or not, in order; none if it does not exist."""
    return sorted(_places(Path(folder)))


def newest(folders: Iterable[str | os.PathLike[str]]) -> tuple[Found | None, list[str]]:
    """The newest good checkpoint of all ``folders``, and a sentence on each newer one that is not.

    Of equal steps, that of the folder named first is taken. ``None`` if no checkpoint is good.
    """
    places: list[tuple[int, Path]] = []
    passed_over = []
    for folder in folders:
        try:
            places += _places(Path(folder)).items()
        except ValueError as error:
            passed_over.append(str(error))
    for _, path in sorted(places, key=lambda place: -place[0]):
        try:
            return Found(path=path, checkpoint=load(path)), passed_over
        except ValueError as error:
            passed_over.append(str(error))
    return None, passed_over


def prune(folder: str | os.PathLike[str], keep: int) -> list[int]:
    """Delete all but the newest ``keep`` checkpoints and the newest good one; the steps deleted.

    Raises ``ValueError`` when ``keep`` is under 1 or the folder cannot be written.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}: expected 1 or more")
    folder = Path(folder)
    places = sorted(_places(folder).items(), reverse=True)
    if len(places) <= keep:
        return []
    deleted = []
    good = next((step for step, path in places if _is_good(path)), None)
    try:
        for step, path in reversed(places[keep:]):
            if step != good:
                _discard(path, folder / _name(step))
                deleted.append(step)
    except OSError as error:
        raise ValueError(
            f"cannot delete {path}: {error.strerror or error}: check the folder's permissions"
        ) from None
    return deleted


def _is_good(path: Path) -> bool:
    try:
        _verify(path)
    except ValueError:
        return False
    return True


def _places(folder: Path) -> dict[int, Path]:
    """Where each step lies: under its name, or where a killed process had set it aside."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}: give another folder") from None
    places = {}
    for name in sorted(names):  # hidden names come first, and yield to the final one
        hidden = _HIDDEN.fullmatch(name)
        shown = hidden["name"] if hidden and hidden["kind"] == "aside" else name
        step = _step(shown)
        if step is not None and (folder / name).is_dir():
            places[step] = folder / name
    return places


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step(name: str) -> int | None:
    """The step that a folder's ``name`` says, if it is a checkpoint's."""
    digits = re.fullmatch(r"step-([0-9]{6,})", name)
    step = int(digits[1]) if digits else None
    return step if step is not None and _name(step) == name else None


def _hidden(final: Path, kind: str) -> Path:
    return final.with_name(f".{final.name}.{kind}.{os.getpid()}")
