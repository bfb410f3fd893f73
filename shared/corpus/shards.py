"""Files of token ids: nanoGPT's train.bin and val.bin, and llm.c's shards with a header."""

import hashlib
from pathlib import Path

import numpy as np

from shared.corpus.file_tokens import FileTokens
from shared.corpus.tokens import Corpus, check_ids, joined, joint_digest, split

# llm.c's shards: 256 words of 32 bits, of which magic, version and count matter, then the ids.
_HEADER = 256 * 4
_SHARDS = {20240520: (1, "<u2"), 20240801: (7, "<u4")}


def shards_in(folder: Path) -> list[Path]:
    """Files of tokens in ``folder``, sorted by name; hidden ones are left out."""
    return sorted(path for path in folder.glob("*.bin") if not path.name.startswith("."))


def load_shards(path: Path, vocab_size: int, fraction: float) -> Corpus:
    """The corpus of one file of tokens, or of a folder of them, whose ``val`` files validate.

    Without such files the last ``fraction`` validates. Raises ``ValueError`` naming the file that
    is damaged, of another kind, or holds ids outside the vocabulary.
    """
    files = shards_in(path) if path.is_dir() else [path]
    pair = [path / "train.bin", path / "val.bin"]
    is_nanogpt = all(file in files for file in pair)
    if is_nanogpt:
        files = pair
    # Only nanoGPT's names, or one file alone, may be without a header.
    rows = [_open_tokens(file, bare=is_nanogpt or not path.is_dir()) for file in files]
    for file, row in zip(files, rows, strict=True):
        check_ids(row, vocab_size, str(file))
        if row.dtype != rows[0].dtype:
            raise ValueError(
                f"{file} is {row.dtype} and {files[0]} is {rows[0].dtype}: give shards of one kind"
            )
    held_out = [path.is_dir() and "val" in file.name for file in files]
    if all(held_out):
        raise ValueError(f"{path} holds validation shards alone: add shards to train on")
    if any(held_out):
        train = joined([row for row, out in zip(rows, held_out, strict=True) if not out])
        validation = joined([row for row, out in zip(rows, held_out, strict=True) if out])
    else:
        train, validation = split(rows, fraction)
    digests = []
    for file in files:
        with open(file, "rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").digest())
    description = {
        "name": str(path),
        "kind": "llm.c" if _magic(files[0])[0] in _SHARDS else "nanogpt",
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": joint_digest(digests),
    }
    return Corpus.counted(train, validation, description)


def _magic(path: Path) -> list[int]:
    """The first three words of ``path``, zero where there are none: magic, version, count."""
    with open(path, "rb") as file:
        return [int(word) for word in np.frombuffer(file.read(12).ljust(12, b"\0"), "<i4")]


def _open_tokens(path: Path, bare: bool) -> FileTokens:
    """The ids of a file: llm.c's, or nanoGPT's without a header where ``bare`` is set."""
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty: give a file of tokens")
    magic, version, count = _magic(path)
    if magic not in _SHARDS:
        if not bare:
            raise ValueError(
                f"{path} begins with {magic}: expected {' or '.join(map(str, _SHARDS))}, llm.c's "
                "magic numbers, or nanoGPT's train.bin and val.bin in the folder"
            )
        if size % 2:
            raise ValueError(
                f"{path} is {size} bytes long, an odd number: expected uint16 tokens, as nanoGPT "
                "writes them"
            )
        return FileTokens(path, "<u2")
    expected, dtype = _SHARDS[magic]
    if version != expected:
        raise ValueError(
            f"{path} is of version {version}: expected {expected} after the magic number {magic}"
        )
    held, rest = divmod(size - _HEADER, np.dtype(dtype).itemsize)
    if count < 1 or held != count or rest:
        raise ValueError(
            f"{path} holds {max(held, 0)} tokens and its header says {count}: copy the file again"
        )
    return FileTokens(path, dtype, _HEADER)
