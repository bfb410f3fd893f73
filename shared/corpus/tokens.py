"""Rows of token ids: put end to end, checked, split, and described as a corpus."""

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from shared.corpus.file_tokens import FileTokens
from shared.files import JsonObject

_CHUNK = 1 << 19  # ids checked at once


class Concatenated:
    """Arrays [N] of one dtype, end to end, of which a slice reads its own stretch and no more.

    Raises ``ValueError`` for arrays of several dtypes, and for a slice with a step.
    """

    def __init__(self, parts: Sequence[np.ndarray | FileTokens]) -> None:
        dtypes = sorted({str(part.dtype) for part in parts})
        if len(dtypes) != 1:
            raise ValueError(f"the parts are of dtypes {', '.join(dtypes)}: expected one")
        self._parts = list(parts)
        self._ends: list[int] = np.cumsum([len(part) for part in parts]).tolist()
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, where: slice) -> Integer[np.ndarray, "N"]:
        start, stop, step = where.indices(len(self))
        if step != 1:
            raise ValueError(f"a slice has step {step}: expected 1")
        pieces = []
        part = bisect.bisect_right(self._ends, start)
        while start < stop:
            begin = self._ends[part] - len(self._parts[part])
            pieces.append(self._parts[part][start - begin : stop - begin])
            start = self._ends[part]
            part += 1
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate([np.empty(0, self.dtype), *pieces])


Row = np.ndarray | FileTokens
Tokens = Row | Concatenated


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Token ids [N] for training and for validation, unsigned, in a file or mapped into memory.

    ``description`` is plain JSON: name, kind, number of files (or of a data set's rows), bytes,
    tokens and ``sha256``: the digest of the file, or of the digests of several files.
    ``entropy_rate`` is the lowest loss that is possible, in nats per token, where it is known.
    """

    train: Tokens
    validation: Tokens
    description: JsonObject
    entropy_rate: float | None = None

    @classmethod
    def counted(cls, train: Tokens, validation: Tokens, description: JsonObject) -> "Corpus":
        """A corpus whose description also has the number of tokens."""
        counts = {"tokens": len(train) + len(validation), "validation_tokens": len(validation)}
        return cls(train=train, validation=validation, description=description | counts)


def joint_digest(digests: Sequence[bytes]) -> str:
    """The digest of one file, as ``sha256sum`` prints it, or of several files' digests."""
    alone = len(digests) == 1
    return digests[0].hex() if alone else hashlib.sha256(b"".join(digests)).hexdigest()


def check_ids(row: Row, vocab_size: int, source: str) -> None:
    """Raise ``ValueError`` for ids outside the vocabulary; read in chunks, to save memory.

    The frameworks differ on such ids: PyTorch raises, or fails on a GPU, and JAX is silent.
    """
    for start in range(0, len(row), _CHUNK):
        chunk = row[start : start + _CHUNK]
        if int(chunk.max()) >= vocab_size:
            at = int((chunk >= vocab_size).argmax())
            raise ValueError(
                f"{source} holds token {chunk[at]} at position {start + at}: expected 0 to "
                f"{vocab_size - 1}, or a larger vocab_size"
            )


def joined(rows: Sequence[Row]) -> Tokens:
    """``rows`` end to end, without a copy."""
    return rows[0] if len(rows) == 1 else Concatenated(rows)


def split(rows: Sequence[Row], fraction: float) -> tuple[Tokens, Tokens]:
    """``rows`` end to end, cut in two: all but the last ``fraction``, and the rest."""
    total = sum(len(row) for row in rows)
    left = total - int(total * fraction)
    train: list[Row] = []
    validation: list[Row] = []
    for row in rows:
        train.append(_part(row, 0, left))
        validation.append(_part(row, left, len(row)))
        left = max(left - len(row), 0)
    return (
        joined([row for row in train if len(row)] or train[:1]),
        joined([row for row in validation if len(row)] or validation[:1]),
    )


def _part(row: Row, start: int, stop: int) -> Row:
    """A part of ``row``, of which nothing is read or copied yet."""
    return row.part(start, stop) if isinstance(row, FileTokens) else row[start:stop]
