"""A corpus by its name on the command line."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.corpus.documents import documents_of, path_of
from shared.corpus.encoding import default_cache, load_text
from shared.corpus.markov import load_markov
from shared.corpus.shards import load_shards, shards_in
from shared.corpus.tokens import Corpus
from shared.tokenizer import Tokenizer


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
    or ``markov:SEED``. Text needs a ``tokenizer``; its ids are kept in ``cache``, by default
    ``default_cache()``. The last ``validation_fraction`` validates, unless the source has a part
    for that. Raises ``ValueError`` where the data cannot be read or does not fit the vocabulary.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}: expected between 0 and 1")
    if data.partition(":")[0] == "markov":
        return load_markov(data, vocab_size)
    with _reading(data):
        source = documents_of(data)
        if source is None:
            return load_shards(path_of(data), vocab_size, validation_fraction)
        if tokenizer is None:
            raise ValueError(f"{data} is text: give a tokenizer, such as bytes")
        folder = default_cache() if cache is None else cache
        return load_text(source, tokenizer, vocab_size, validation_fraction, folder)


def holds_text(data: str) -> bool:
    """Whether ``data`` names text, which has to be tokenised, and not tokens.

    Raises ``ValueError`` where it cannot be looked at; what does not exist passes for text.
    """
    if data.partition(":")[0] == "markov":
        return False
    if data == "python" or data.startswith("hf:"):
        return True
    with _reading(data):
        path = path_of(data)
        return not (any(shards_in(path)) if path.is_dir() else path.suffix == ".bin")


def texts(data: str) -> Iterator[str]:
    """The documents that ``data`` names, to train a tokenizer on.

    Raises ``ValueError`` where it holds tokens and not text, or cannot be read.
    """
    with _reading(data):
        source = None if data.partition(":")[0] == "markov" else documents_of(data)
    if source is None:
        raise ValueError(f"{data} holds tokens, not text: train the tokenizer on text")
    return _read(data, source.parts[0])


def _read(data: str, documents: Callable[[], Iterator[str]]) -> Iterator[str]:
    with _reading(data):
        yield from documents()


@contextlib.contextmanager
def _reading(data: str) -> Iterator[None]:
    """Within, an ``OSError`` becomes a ``ValueError`` that names the file."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot read {error.filename or data} ({error.strerror or error}): give readable data"
        ) from None
