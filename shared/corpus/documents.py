"""Sources of text: the Python library at hand, a file, a folder, a data set of Hugging Face."""

import functools
import hashlib
import os
import platform
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.corpus.shards import shards_in

# A folder of this name within the standard library holds tests, caches or others' packages.
_NOT_PYTHONS_OWN = frozenset(
    ("__pycache__", "test", "tests", "idlelib", "lib2to3", "dist-packages", "site-packages")
)


@dataclass(frozen=True, kw_only=True)
class Documents:
    """A source of documents: one part, to be split, or a training and a validation part."""

    name: str
    kind: str
    parts: tuple[Callable[[], Iterator[str]], ...]


def documents_of(data: str) -> Documents | None:
    """The documents that ``data`` names; ``None`` where they are files of tokens.

    Raises ``ValueError`` for a name, file or folder that does not exist.
    """
    if data == "python":
        name = f"the standard library of Python {platform.python_version()}"
        return Documents(name=name, kind="python", parts=(_python,))
    if data.startswith("hf:"):
        return _hugging_face(data)
    path = path_of(data)
    if data and path.is_dir():
        if any(shards_in(path)):
            return None
        return Documents(name=data, kind="folder", parts=(functools.partial(_folder, path),))
    if not data or not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise ValueError(
            f"{data or repr(data)} {state}: give a file, a folder, python, markov or hf:NAME"
        )
    if path.suffix == ".bin":
        return None
    return Documents(name=data, kind="file", parts=(functools.partial(_file, path),))


def path_of(data: str) -> Path:
    """``data`` as a path, ``~`` expanded. Raises ``ValueError`` for an unknown user's home."""
    try:
        return Path(data).expanduser()
    except RuntimeError:
        raise ValueError(f"{data} begins with the home of an unknown user: give a path") from None


def _file(path: Path) -> Iterator[str]:
    try:
        yield path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 at byte {error.start}: give a text file, or tokens as .bin"
        ) from None


def _folder(folder: Path) -> Iterator[str]:
    """Every file of ``folder`` that is UTF-8, but for hidden ones."""
    return _documents(folder, "", lambda name: name.startswith("."))


def _python() -> Iterator[str]:
    """The source files of the running Python's library: text that is on every machine."""
    return _documents(Path(sysconfig.get_path("stdlib")), ".py", _NOT_PYTHONS_OWN.__contains__)


def _documents(root: Path, suffix: str, is_excluded: Callable[[str], bool]) -> Iterator[str]:
    """Contents of the files under ``root`` that end in ``suffix``, sorted by a hash of their paths.

    The order is the same on every machine, and the end of it, which validates, is like the rest.
    """

    def fail(error: OSError) -> None:  # os.walk would skip a folder that it cannot list
        raise error

    names = []
    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not is_excluded(name)]
        paths = [Path(folder, name) for name in files if not is_excluded(name)]
        names += [
            path.relative_to(root)
            for path in paths
            if path.name.endswith(suffix) and path.is_file()
        ]
    for name in sorted(
        names, key=lambda name: hashlib.sha256(os.fsencode(name.as_posix())).digest()
    ):
        content = (root / name).read_bytes()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue
        if text:
            yield text


def _hugging_face(data: str) -> Documents:
    _, name, column, *_ = f"{data}:".split(":")
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{data} needs the datasets package: run pip install datasets") from None
    try:
        splits = datasets.load_dataset(name)
    except Exception as error:  # of as many kinds as the library, the hub and the network have
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"cannot load the data set {name!r} ({why}): check its name and the network"
        ) from None
    if "train" not in splits:
        raise ValueError(f"the data set {name!r} has splits {sorted(splits)}: expected 'train'")
    column = column or "text"
    columns = splits["train"].column_names
    if column not in columns:
        raise ValueError(
            f"the data set {name!r} has no column {column!r}: choose hf:{name}:COLUMN from "
            f"{', '.join(columns)}"
        )

    def rows(split: str) -> Iterator[str]:
        for batch in splits[split].iter(batch_size=1000):
            yield from (text for text in batch[column] if text)

    names = ("train", "validation") if "validation" in splits else ("train",)
    parts = tuple(functools.partial(rows, split) for split in names)
    return Documents(name=data, kind="hugging face", parts=parts)
