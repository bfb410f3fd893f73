"""Where the text comes from: the Python at hand, files, folders, token shards, a data set, a chain.

Whatever its kind, a corpus is two long rows of token ids, one to train on and one to validate with,
mapped into memory rather than read, and a description by which a run can be repeated.
"""

import bisect
import contextlib
import functools
import hashlib
import os
import platform
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from shared.tokenizer import Tokenizer

# A folder of this name within the standard library holds tests, caches or others' packages.
_NOT_PYTHONS_OWN = frozenset(
    ("__pycache__", "test", "tests", "idlelib", "lib2to3", "dist-packages", "site-packages")
)
# llm.c's shards: 256 words of 32 bits, of which magic, version and count matter, then the ids.
_HEADER = 256 * 4
_SHARDS = {20240520: (1, "<u2"), 20240801: (7, "<u4")}

_CACHE_FORMAT = "twingrad tokens 1"  # part of each key: change it, and old files are left alone
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 1 << 22  # ids looked at together
_BLOCK = 1 << 20  # characters encoded together
# A line's end between two lines that neither indentation nor an empty line sets apart.
_SEAM = re.compile(r"\S\n(?=\S)")

MARKOV_SYMBOLS = 16
_MARKOV_TOKENS = 1 << 20, 1 << 16  # to train on, to validate with


class Concatenated:
    """Arrays [N] of one dtype, end to end: slicing reads what it asks for and nothing else."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        assert len({part.dtype for part in parts}) == 1, "shards of several dtypes"
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts]).tolist()
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, where: slice) -> Integer[np.ndarray, "N"]:
        start, stop, step = where.indices(len(self))
        assert step == 1, "only whole stretches"
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


Tokens = np.ndarray | Concatenated


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Token ids [N] to train on and to validate with, unsigned, mapped into memory.

    ``description`` is plain JSON: name, kind, number of files (a data set's rows), bytes, tokens
    and ``sha256``, which is the file's own, or that of several files' digests put together.
    ``entropy_rate`` is the least loss there can be, in nats per token, where that is known.
    """

    train: Tokens
    validation: Tokens
    description: dict[str, Any]
    entropy_rate: float | None = None


def load(
    data: str,
    tokenizer: Tokenizer | None,
    vocab_size: int,
    *,
    validation_fraction: float = 0.05,
    cache: Path | None = None,
) -> Corpus:
    """The corpus that ``data`` names, every id checked to be under ``vocab_size``.

    ``data`` is ``python`` (the running Python's own library), a text file or a folder of them, a
    ``.bin`` of nanoGPT or llm.c or a folder of them, ``hf:NAME`` or ``hf:NAME:COLUMN``, ``markov``
    or ``markov:SEED``. Text needs a ``tokenizer``; its ids are kept in ``cache``, which is
    ``default_cache()`` unless given. The last ``validation_fraction`` validates, unless the source
    has a part for that. Raises ``ValueError`` in one sentence.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}: expected between 0 and 1")
    if data.partition(":")[0] == "markov":
        return _load_markov(data, vocab_size)
    with _reading(data):
        source = _text_source(data)
        if source is None:
            return _load_binary(_path(data), vocab_size, validation_fraction)
        if tokenizer is None:
            raise ValueError(f"{data} is text: give a tokenizer, such as bytes")
        folder = default_cache() if cache is None else cache
        return _load_text(source, tokenizer, vocab_size, validation_fraction, folder)


def texts(data: str) -> Iterator[str]:
    """The documents that ``data`` names, to train a tokenizer on; ``ValueError`` if it has none."""
    with _reading(data):
        source = None if data.partition(":")[0] == "markov" else _text_source(data)
    if source is None:
        raise ValueError(f"{data} holds tokens, not text: train the tokenizer on text")
    return _read(data, source.parts[0])


def _read(data: str, documents: Callable[[], Iterator[str]]) -> Iterator[str]:
    with _reading(data):
        yield from documents()


@contextlib.contextmanager
def _reading(data: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot read {error.filename or data} ({error.strerror or error}): give readable data"
        ) from None


def default_cache() -> Path:
    """Where tokenised text is kept: ``twingrad`` in ``$XDG_CACHE_HOME`` or else in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the standard has a relative path ignored
        base = os.path.expanduser("~/.cache")
    # Nobody at home: where no folder can be made, nothing is cached, and no folder "~" appears.
    return Path(base if os.path.isabs(base) else os.devnull) / "twingrad"


# Text


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """A source of documents: one part, to be split, or one to train on and one to validate with."""

    name: str
    kind: str
    parts: tuple[Callable[[], Iterator[str]], ...]


def _text_source(data: str) -> _Texts | None:
    """The documents that ``data`` names, or ``None`` if it is files of tokens."""
    if data == "python":
        name = f"the standard library of Python {platform.python_version()}"
        return _Texts(name=name, kind="python", parts=(_python,))
    if data.startswith("hf:"):
        return _hugging_face(data)
    path = _path(data)
    if data and path.is_dir():
        if any(_shards(path)):
            return None
        return _Texts(name=data, kind="folder", parts=(functools.partial(_folder, path),))
    if not data or not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise ValueError(
            f"{data or repr(data)} {state}: give a file, a folder, python, markov or hf:NAME"
        )
    if path.suffix == ".bin":
        return None
    return _Texts(name=data, kind="file", parts=(functools.partial(_file, path),))


def _path(data: str) -> Path:
    try:
        return Path(data).expanduser()
    except RuntimeError:
        raise ValueError(f"{data} begins with the home of somebody unknown: give a path") from None


def _file(path: Path) -> Iterator[str]:
    try:
        yield path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 at byte {error.start}: give a text file, or tokens as .bin"
        ) from None


def _folder(folder: Path) -> Iterator[str]:
    """Every file of ``folder`` that is UTF-8, hidden ones left out."""

    return _documents(folder, "", lambda name: name.startswith("."))


def _python() -> Iterator[str]:
    """The sources of the running Python's library: text that every machine has, without asking."""

    return _documents(Path(sysconfig.get_path("stdlib")), ".py", _NOT_PYTHONS_OWN.__contains__)


def _documents(root: Path, suffix: str, left_out: Callable[[str], bool]) -> Iterator[str]:
    """Files under ``root`` that end in ``suffix``, in the order of a hash of their paths.

    So the end of the row, which validates, is of the same kind as the rest, and the order is one on
    every machine.
    """

    def fail(error: OSError) -> None:  # os.walk would pass over what it cannot list
        raise error

    names = []
    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not left_out(name)]
        paths = [Path(folder, name) for name in files if not left_out(name)]
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


def _hugging_face(data: str) -> _Texts:
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
    return _Texts(name=data, kind="hugging face", parts=parts)


def _load_text(
    source: _Texts, tokenizer: Tokenizer, vocab_size: int, fraction: float, cache: Path
) -> Corpus:
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"the {tokenizer.name} tokenizer has {tokenizer.vocab_size} ids and the model a "
            f"vocab_size of {vocab_size}: raise that, or use a smaller tokenizer"
        )
    files, size, digests, rows = 0, 0, [], []
    for documents in source.parts:
        found = _digests(documents())
        if not found:
            raise ValueError(f"{source.name} holds no text: give one with UTF-8 text in it")
        files += len(found)
        size += sum(length for _, length in found)
        digests += [digest for digest, _ in found]
        content = _joint([digest for digest, _ in found])
        rows.append(_tokenised(documents, content, tokenizer, cache))
    for row in rows:
        _check_ids(row, vocab_size, source.name)
    train, validation = rows if len(rows) == 2 else _split(rows, fraction)
    description = {
        "name": source.name,
        "kind": source.kind,
        "files": files,
        "bytes": size,
        "sha256": _joint(digests),
        "tokenizer": tokenizer.name,
    }
    return _corpus(train, validation, description)


def _digests(documents: Iterable[str]) -> list[tuple[bytes, int]]:
    """The SHA-256 and the number of bytes of each document that has any."""
    contents = (text.encode() for text in documents)
    return [(hashlib.sha256(content).digest(), len(content)) for content in contents if content]


def _joint(digests: Sequence[bytes]) -> str:
    """One file's own digest, which ``sha256sum`` prints, or that of several files' digests."""
    alone = len(digests) == 1
    return digests[0].hex() if alone else hashlib.sha256(b"".join(digests)).hexdigest()


def _encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The ids of ``documents`` with ``tokenizer.end`` between them, a stretch at a time."""
    for i, text in enumerate(documents):
        if i:
            yield np.array([tokenizer.end], tokenizer.dtype)
        for block in blocks(text):
            yield tokenizer.encode(block)


def blocks(text: str, size: int = _BLOCK) -> Iterator[str]:
    """``text`` in blocks of ``size`` characters or more, cut where GPT-2's pattern cuts anyway.

    Encoding it at once would take a hundred times its size in memory.
    """
    start = 0
    while found := _SEAM.search(text, start + size):
        yield text[start : found.end()]
        start = found.end()
    yield text[start:]


def _tokenised(
    documents: Callable[[], Iterator[str]], content: str, tokenizer: Tokenizer, cache: Path
) -> Integer[np.ndarray, "N"]:
    """The ids of ``documents``, from ``cache`` if they are there, and left there if they can be."""
    key = f"{_CACHE_FORMAT} {content} {tokenizer.fingerprint}"
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.tokens"
    tokens = _read_cache(path, tokenizer.dtype)
    if tokens is None:
        # A cache that cannot be written costs time at the next start, and memory, but not the run.
        with contextlib.suppress(OSError):
            _write_cache(path, _encoded(documents(), tokenizer))
            tokens = _read_cache(path, tokenizer.dtype)
    if tokens is None:
        tokens = np.concatenate(list(_encoded(documents(), tokenizer)))
    return tokens


def _read_cache(path: Path, dtype: np.dtype) -> np.ndarray | None:
    """The ids in ``path``, mapped, or ``None`` if it is not a file that was wholly written."""
    try:
        content: np.ndarray = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):  # ValueError: it is empty
        return None
    ids, digest = content[:-_DIGEST], content[-_DIGEST:].tobytes()
    if len(ids) == 0 or len(ids) % dtype.itemsize or hashlib.sha256(ids.data).digest() != digest:
        return None
    return ids.view(dtype)


def _write_cache(path: Path, stretches: Iterable[np.ndarray]) -> None:
    """Write the ids and their SHA-256 to ``path``, whole or not at all, a stretch at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = hashlib.sha256()
            for ids in stretches:
                file.write(ids.data)
                digest.update(ids.data)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# Tokens


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.bin") if not path.name.startswith("."))


def _load_binary(path: Path, vocab_size: int, fraction: float) -> Corpus:
    files = _shards(path) if path.is_dir() else [path]
    pair = [path / "train.bin", path / "val.bin"]
    own = all(file in files for file in pair)
    if own:
        files = pair
    # Only nanoGPT's names, or one file alone, may be without a header.
    rows = [_map_tokens(file, bare=own or not path.is_dir()) for file in files]
    for file, row in zip(files, rows, strict=True):
        _check_ids(row, vocab_size, str(file))
        if row.dtype != rows[0].dtype:
            raise ValueError(
                f"{file} is {row.dtype} and {files[0]} is {rows[0].dtype}: give shards of one kind"
            )
    held_out = [path.is_dir() and "val" in file.name for file in files]
    if all(held_out):
        raise ValueError(f"{path} holds validation shards alone: add shards to train on")
    if any(held_out):
        train = _joined([row for row, out in zip(rows, held_out, strict=True) if not out])
        validation = _joined([row for row, out in zip(rows, held_out, strict=True) if out])
    else:
        train, validation = _split(rows, fraction)
    digests = []
    for file in files:
        with open(file, "rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").digest())
    description = {
        "name": str(path),
        "kind": "llm.c" if _magic(files[0])[0] in _SHARDS else "nanogpt",
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": _joint(digests),
    }
    return _corpus(train, validation, description)


def _magic(path: Path) -> list[int]:
    """The first three words of ``path``, zero where there are none: magic, version, count."""
    with open(path, "rb") as file:
        return np.frombuffer(file.read(12).ljust(12, b"\0"), "<i4").tolist()


def _map_tokens(path: Path, bare: bool) -> np.ndarray:
    """The ids of a file of llm.c or, if ``bare``, of nanoGPT, which has no header; mapped."""
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
        return np.memmap(path, "<u2", "r")
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
    return np.memmap(path, dtype, "r", offset=_HEADER)


def _check_ids(row: Integer[np.ndarray, "N"], vocab_size: int, source: str) -> None:
    """Refuses ids that the model has no embedding for; chunk by chunk, so as not to hold them all.

    Checked here because PyTorch raises on them, or fails on the GPU, and JAX does not say a word.
    """
    for start in range(0, len(row), _CHUNK):
        chunk = row[start : start + _CHUNK]
        if int(chunk.max()) >= vocab_size:
            at = int((chunk >= vocab_size).argmax())
            raise ValueError(
                f"{source} holds token {chunk[at]} at position {start + at}: expected 0 to "
                f"{vocab_size - 1}, or a larger vocab_size"
            )


def _joined(rows: Sequence[np.ndarray]) -> Tokens:
    return rows[0] if len(rows) == 1 else Concatenated(rows)


def _split(rows: Sequence[np.ndarray], fraction: float) -> tuple[Tokens, Tokens]:
    """``rows`` as one, in two: all but the last ``fraction``, and that."""
    total = sum(len(row) for row in rows)
    left = total - int(total * fraction)
    train, validation = [], []
    for row in rows:
        train.append(row[:left])
        validation.append(row[left:])
        left = max(left - len(row), 0)
    return (
        _joined([row for row in train if len(row)] or train[:1]),
        _joined([row for row in validation if len(row)] or validation[:1]),
    )


def _corpus(train: Tokens, validation: Tokens, description: dict[str, Any]) -> Corpus:
    counts = {
        "tokens": len(train) + len(validation),
        "validation_tokens": len(validation),
    }
    return Corpus(train=train, validation=validation, description=description | counts)


# A chain whose entropy is known


@dataclass(frozen=True, kw_only=True, eq=False)
class Markov:
    """A chain in which ``probabilities[a, b]`` is that of symbol b after symbol a.

    What a model cannot beat is known in closed form: a loss below it means that the model sees its
    targets, and the loss that training ends at can be held against it.
    """

    probabilities: Float[np.ndarray, "K K"]

    @classmethod
    def seeded(cls, seed: int, symbols: int = MARKOV_SYMBOLS, spread: float = 0.25) -> "Markov":
        """Each row drawn from a symmetric Dirichlet distribution; small ``spread``, sharp rows."""
        rng = np.random.default_rng([1, seed])
        return cls(probabilities=rng.dirichlet(np.full(symbols, spread), size=symbols))

    @functools.cached_property
    def stationary(self) -> Float[np.ndarray, "K"]:
        """How often each symbol comes in the long run: the pi with pi P = pi."""
        K = len(self.probabilities)
        equations = np.vstack([self.probabilities.T - np.eye(K), np.ones(K)])  # and sums to one
        solution = np.linalg.lstsq(equations, np.eye(K + 1)[-1], rcond=None)[0]
        return np.clip(solution, 0, None)

    @functools.cached_property
    def entropy_rate(self) -> float:
        """-sum pi(a) P(b | a) ln P(b | a), in nats per token (Shannon, 1948)."""
        return float((self.stationary * _entropy(self.probabilities)).sum())

    def sample(self, n: int, seed: int) -> UInt8[np.ndarray, "N"]:
        """``n`` symbols of the chain, which starts as it goes on: from its stationary state."""
        rng = np.random.default_rng([2, seed])
        symbol = int(rng.choice(len(self.probabilities), p=self.stationary / self.stationary.sum()))
        # Each symbol waits for the one before: lists, which Python reads faster than arrays.
        sums = np.cumsum(self.probabilities, axis=-1)
        limits = (sums / sums[:, -1:])[:, :-1].tolist()
        symbols = [symbol]
        find, add = bisect.bisect_right, symbols.append
        for uniform in rng.random(max(n - 1, 0)).tolist():
            symbol = find(limits[symbol], uniform)
            add(symbol)
        return np.array(symbols[:n], np.uint8)

    def nats(self, tokens: Integer[np.ndarray, "N"]) -> float:
        """The chain's own mean loss on ``tokens``, from the second on.

        It differs from the entropy rate by the luck of these tokens, which a model shares.
        """
        tokens = np.asarray(tokens).astype(np.int64)
        return float(-np.log(self.probabilities[tokens[:-1], tokens[1:]]).mean())


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropies in nats along the last axis; what never happens adds nothing."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1))
    return -(probabilities * logarithms).sum(axis=-1)


def _load_markov(data: str, vocab_size: int) -> Corpus:
    name, _, seed = data.partition(":")
    if name != data and not (seed.isdecimal() and len(seed) <= 10 and int(seed) < 1 << 32):
        raise ValueError(f"{data} has seed {seed!r}: expected markov:SEED with a whole number")
    if vocab_size < MARKOV_SYMBOLS:
        raise ValueError(
            f"vocab_size is {vocab_size}: {name} has {MARKOV_SYMBOLS} symbols, make it that or more"
        )
    chain = Markov.seeded(int(seed or 0))
    # Two streams: what validates was never trained on.
    train, validation = (chain.sample(n, stream) for stream, n in enumerate(_MARKOV_TOKENS))
    description = {
        "name": data,
        "kind": name,
        "files": 0,
        "bytes": train.nbytes + validation.nbytes,
        "sha256": _joint([hashlib.sha256(row.data).digest() for row in (train, validation)]),
        "seed": int(seed or 0),
        "entropy_rate": chain.entropy_rate,
    }
    corpus = _corpus(train, validation, description)
    return replace(corpus, entropy_rate=chain.entropy_rate)
