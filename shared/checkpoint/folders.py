"""Folders of checkpoints: found, pruned, put in place, and cleared of leftovers."""

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoint.format import STATE, Checkpoint, folder_name, step_of
from shared.checkpoint.reading import is_good, load

# Hidden folders carry the id of the process that made them: "new" is being written, "aside" was
# whole and is being replaced, "gone" is being deleted.
_HIDDEN = re.compile(r"\.(?P<name>step-[0-9]+)\.(?P<kind>new|aside|gone)\.(?P<pid>[0-9]+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredCheckpoint:
    """A good checkpoint, and the folder that it was read from."""

    path: Path
    checkpoint: Checkpoint


def steps(folder: str | os.PathLike[str]) -> list[int]:
    """Steps of the checkpoints in ``folder``, good or not, ascending; none if it does not exist.

    Raises ``ValueError`` when the folder cannot be read.
    """
    return sorted(_places(Path(folder)))


def newest(folders: Iterable[str | os.PathLike[str]]) -> tuple[StoredCheckpoint | None, list[str]]:
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
            return StoredCheckpoint(path=path, checkpoint=load(path)), passed_over
        except ValueError as error:
            passed_over.append(str(error))
    return None, passed_over


def prune(folder: str | os.PathLike[str], keep: int, also: Collection[int] = ()) -> list[int]:
    """Delete all but the newest ``keep`` checkpoints, the newest good one and those of ``also``.

    Returns the steps deleted.
    Raises ``ValueError`` when ``keep`` is under 1 or the folder cannot be written.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}: expected 1 or more")
    folder = Path(folder)
    places = sorted(_places(folder).items(), reverse=True)
    if len(places) <= keep:
        return []
    deleted = []
    good = next((step for step, path in places if is_good(path)), None)
    try:
        for step, path in reversed(places[keep:]):
            if step != good and step not in also:
                _discard(path, folder / folder_name(step))
                deleted.append(step)
    except OSError as error:
        raise ValueError(
            f"cannot delete {path}: {error.strerror or error}: check the folder's permissions"
        ) from None
    return deleted


def _places(folder: Path) -> dict[int, Path]:
    """Folder of each step: under its own name, or set aside by a process that was killed."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(
            f"cannot read {folder}: {error.strerror or error}: give another folder"
        ) from None
    places = {}
    for name in sorted(names):  # hidden names come first, and yield to the final one
        match = _HIDDEN.fullmatch(name)
        shown = match["name"] if match and match["kind"] == "aside" else name
        step = step_of(shown)
        if step is not None and (folder / name).is_dir():
            places[step] = folder / name
    return places


def hidden(final: Path, kind: str) -> Path:
    """The name beside ``final`` for a folder of this process that is in state ``kind``."""
    return final.with_name(f".{final.name}.{kind}.{os.getpid()}")


def place(new: Path, final: Path) -> None:
    """Rename ``new`` to ``final``; a checkpoint of that name can be found at every moment."""
    aside = None
    if final.is_dir():
        if _is_identical(new, final):
            return
        aside = hidden(final, "aside")
        os.rename(final, aside)
    try:
        os.rename(new, final)
        flush(final.parent)
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
    """Whether ``final`` is good and has the same state.json, which holds every file's SHA-256."""
    return is_good(final) and (new / STATE).read_bytes() == (final / STATE).read_bytes()


def _discard(path: Path, final: Path) -> None:
    """Delete ``path`` so that no part of it is ever taken for the checkpoint ``final``."""
    gone = hidden(final, "gone")
    os.rename(path, gone)
    flush(gone.parent)
    _remove(gone)


def _remove(path: Path) -> None:
    """Delete ``path``; files that the system refuses to delete are left to the next sweep."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Clear leftovers of killed processes; bring back a checkpoint set aside and not replaced."""
    for name in os.listdir(folder):
        match = _HIDDEN.fullmatch(name)
        if match is None or _is_another_alive(int(match["pid"])):
            continue
        final = folder / match["name"]
        with contextlib.suppress(OSError):
            if match["kind"] != "aside":
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


def flush(folder: Path) -> None:
    """Wait until the entries of ``folder`` are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
