"""Text to token ids, block by block, kept in a cache on the disk."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from shared.corpus.documents import Documents
from shared.corpus.tokens import Corpus, check_ids, joint_digest, split
from shared.tokenizer import Tokenizer
from shared.whole import whole_file

_CACHE_FORMAT = "twingrad tokens 1"  # part of each key: change it, and old files are ignored
_DIGEST = hashlib.sha256().digest_size
_BLOCK = 1 << 20  # characters encoded at once
# A line break between two lines that neither indentation nor an empty line separates.
_SEAM = re.compile(r"\S\n(?=\S)")


def default_cache() -> Path:
    """Folder of tokenised text: ``twingrad`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG standard ignores relative paths
        base = os.path.expanduser("~/.cache")
    # A user without a home: nothing can be cached there, and no folder "~" is to appear.
    return Path(base if os.path.isabs(base) else os.devnull) / "twingrad"


def load_text(
    source: Documents, tokenizer: Tokenizer, vocab_size: int, fraction: float, cache: Path
) -> Corpus:
    """The corpus of ``source``; its last ``fraction`` validates unless it has a part for that.

    Raises ``ValueError`` where it holds no text, or the tokenizer has more ids than the model.
    """
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"the {tokenizer.name} tokenizer has {tokenizer.vocab_size} ids and the model a "
            f"vocab_size of {vocab_size}: raise that, or use a smaller tokenizer"
        )
    files, size, digests, rows = 0, 0, [], []
    for documents in source.parts:
        described = _digests(documents())
        if not described:
            raise ValueError(f"{source.name} holds no text: give one with UTF-8 text in it")
        files += len(described)
        size += sum(length for _, length in described)
        digests += [digest for digest, _ in described]
        content = joint_digest([digest for digest, _ in described])
        rows.append(_tokenised(documents, content, tokenizer, cache))
    for row in rows:
        check_ids(row, vocab_size, source.name)
    train, validation = rows if len(rows) == 2 else split(rows, fraction)
    description = {
        "name": source.name,
        "kind": source.kind,
        "files": files,
        "bytes": size,
        "sha256": joint_digest(digests),
        "tokenizer": tokenizer.name,
    }
    return Corpus.counted(train, validation, description)


def _digests(documents: Iterable[str]) -> list[tuple[bytes, int]]:
    """SHA-256 and number of bytes of each document that is not empty."""
    contents = (text.encode() for text in documents)
    return [(hashlib.sha256(content).digest(), len(content)) for content in contents if content]


def _encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The ids of ``documents`` with ``tokenizer.end`` between them, block by block."""
    for i, text in enumerate(documents):
        if i:
            yield np.array([tokenizer.end], tokenizer.dtype)
        for block in blocks(text):
            yield tokenizer.encode(block)


def blocks(text: str, size: int = _BLOCK) -> Iterator[str]:
    """``text`` in blocks of ``size`` characters or more, cut where GPT-2's pattern cuts anyway.

    Encoding all of it at once would take a hundred times its size in memory.
    """
    start = 0
    while seam := _SEAM.search(text, start + size):
        yield text[start : seam.end()]
        start = seam.end()
    yield text[start:]


def _tokenised(
    documents: Callable[[], Iterator[str]], content: str, tokenizer: Tokenizer, cache: Path
) -> Integer[np.ndarray, "N"]:
    """The ids of ``documents``, read from ``cache`` or else written to it."""
    key = f"{_CACHE_FORMAT} {content} {tokenizer.fingerprint}"
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.tokens"
    tokens = _read_cache(path, tokenizer.dtype)
    if tokens is None:
        # A cache that cannot be written is no error: the ids are then encoded at every start.
        with contextlib.suppress(OSError):
            _write_cache(path, _encoded(documents(), tokenizer))
            tokens = _read_cache(path, tokenizer.dtype)
    if tokens is None:
        tokens = np.concatenate(list(_encoded(documents(), tokenizer)))
    return tokens


def _read_cache(path: Path, dtype: np.dtype) -> np.ndarray | None:
    """The ids in ``path``, mapped; ``None`` if the file is absent or was not wholly written."""
    try:
        content: np.ndarray = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):  # ValueError: it is empty
        return None
    ids, digest = content[:-_DIGEST], content[-_DIGEST:].tobytes()
    if len(ids) == 0 or len(ids) % dtype.itemsize or hashlib.sha256(ids.data).digest() != digest:
        return None
    return ids.view(dtype)


def _write_cache(path: Path, stretches: Iterable[np.ndarray]) -> None:
    """Write the ids and their SHA-256 to ``path``, whole or not at all, block by block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        digest = hashlib.sha256()
        for ids in stretches:
            file.write(ids.data)
            digest.update(ids.data)
        file.write(digest.digest())
