"""Text to token ids and back: bytes, GPT-2's own vocabulary, or a byte-level BPE of one's own.

Every tokenizer here stands on bytes: each id is a piece of UTF-8, perhaps not a whole character,
and a text is its pieces put together. So decoding is one function, and text can be streamed.
"""

import codecs
import functools
import hashlib
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt

from shared import files
from shared.files import Json, JsonObject

if TYPE_CHECKING:
    import tiktoken

END_OF_TEXT = "<|endoftext|>"
# Its spellings in other families of models.
_ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")
CHOICES = ("bytes", "gpt2", "bpe")
# Text of an id without a piece of its own, as of bytes that are not UTF-8.
_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()
# More than any vocabulary has. Each id takes memory, also an unused one.
_MOST_IDS = 1 << 22
_PATIENCE = 60.0  # seconds for the download of two files, a megabyte and a half


class Tokenizer(ABC):
    """Encoder of text as ids under ``vocab_size``; ``end`` is the id between two documents.

    ``pieces[i]`` is the UTF-8 text of id ``i``. ``fingerprint`` is the SHA-256 of the tokenizer's
    definition, which ``to_json`` returns and ``from_json`` takes.
    """

    name: str
    end: int
    pieces: list[bytes]

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """The smaller of uint16 and uint32 that holds every id."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of this tokenizer's definition."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> UInt[np.ndarray, "N"]:
        """The ids of ``text``, uint16 or uint32 [N]; special tokens' names are ordinary text.

        Raises ``ValueError`` if UTF-8 cannot write ``text``.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds {text[error.start]!r} at position {error.start}, half of a "
                "character: give text that UTF-8 can write"
            ) from None
        return np.asarray(self._encode(text), self.dtype)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of ``ids``; bytes that are no UTF-8 and unknown ids read as U+FFFD."""
        return b"".join(self.piece(int(i)) for i in ids).decode(errors="replace")

    def piece(self, i: int) -> bytes:
        """UTF-8 text of id ``i``; U+FFFD for an id beyond the vocabulary."""
        return self.pieces[i] if 0 <= i < self.vocab_size else _UNKNOWN

    @abstractmethod
    def _encode(self, text: str) -> Sequence[int] | np.ndarray:
        """The ids of ``text``, which is valid UTF-8."""

    @abstractmethod
    def to_json(self) -> JsonObject:
        """Definition of this tokenizer, for ``from_json``: plain JSON, complete in itself."""


class Bytes(Tokenizer):
    """The 256 bytes of UTF-8 as ids; a zero byte ends a document."""

    name = "bytes"
    end = 0

    def __init__(self) -> None:
        self.pieces = [bytes([i]) for i in range(256)]

    def _encode(self, text: str) -> Sequence[int] | np.ndarray:
        return np.frombuffer(text.encode(), np.uint8)

    def to_json(self) -> JsonObject:
        """Its kind, which is a complete definition."""
        return {"kind": "bytes"}


class GPT2(Tokenizer):
    """GPT-2's 50257 tokens, by tiktoken; ``ValueError`` if its files are not at hand."""

    name = "gpt2"

    def __init__(self) -> None:
        self._encoding = _gpt2_encoding()
        self.end = self._encoding.eot_token
        decode = self._encoding.decode_single_token_bytes
        self.pieces = [decode(i) for i in range(self._encoding.n_vocab)]

    def _encode(self, text: str) -> Sequence[int] | np.ndarray:
        return self._encoding.encode_ordinary(text)

    def to_json(self) -> JsonObject:
        """Its kind alone: tiktoken checks the hash of its files."""
        return {"kind": "gpt2"}


def _gpt2_encoding() -> "tiktoken.Encoding":
    try:
        import tiktoken
    except ImportError:
        raise ValueError("the gpt2 tokenizer needs tiktoken: run pip install tiktoken") from None
    outcome: list[tiktoken.Encoding | Exception] = []

    def fetch() -> None:
        try:
            outcome.append(tiktoken.get_encoding("gpt2"))
        except Exception as error:  # any failure of the network or the disk
            outcome.append(error)

    # tiktoken downloads without a time limit, so in a thread that can be abandoned.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    result = outcome[0] if outcome else TimeoutError(f"no answer in {_PATIENCE:.0f} s")
    if not isinstance(result, Exception):
        return result
    raise ValueError(
        f"GPT-2's tokenizer files are not at hand ({_brief(result)}): connect to the network once, "
        "set TIKTOKEN_CACHE_DIR to a folder that holds them, or use --tokenizer bytes or bpe"
    )


class BPE(Tokenizer):
    """Byte-level BPE, by Hugging Face's tokenizers: ``train`` it, or ``load`` a ``tokenizer.json``.

    ``definition`` is the text of a ``tokenizer.json``. Raises ``ValueError`` if it is anything but
    a byte-level BPE with all 256 bytes and a token that ends a text.
    """

    name = "bpe"

    def __init__(self, definition: str, source: str = "the tokenizer") -> None:
        library = _tokenizers()
        try:
            self._model = library.Tokenizer.from_str(definition)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # its panics are not Exceptions
            raise ValueError(
                f"{source} is no tokenizer.json ({_brief(error)}): give one that transformers saved"
            ) from None
        # First of all, since the library itself takes time for every id up to the largest.
        largest = max(self._model.get_vocab().values(), default=0)
        if largest >= _MOST_IDS:
            raise ValueError(f"{source} has id {largest}: expected ids under {_MOST_IDS}")
        # A special token's name within a text is ordinary text, and must not end a document.
        self._model.encode_special_tokens = True
        self.definition = self._model.to_str()
        raw = json.loads(self.definition)
        vocabulary = self._model.get_vocab(with_added_tokens=False)
        if len(set(vocabulary.values())) < len(vocabulary):
            # The library would keep one of them when it writes the rest down.
            raise ValueError(f"{source} gives one id to two tokens: expected an id for each")
        alphabet = _alphabet()
        if (
            raw["model"]["type"] != "BPE"
            or raw["model"].get("continuing_subword_prefix")
            or '"type": "ByteLevel"' not in json.dumps(raw["pre_tokenizer"])
            or not alphabet.keys() <= vocabulary.keys()
        ):
            raise ValueError(
                f"{source} is not a byte-level BPE over all 256 bytes: give one of GPT-2's kind"
            )
        pieces = {
            i: bytes(alphabet[letter] for letter in token)
            for token, i in vocabulary.items()
            if alphabet.keys() >= set(token)
        }
        added = self._model.get_added_tokens_decoder()
        pieces |= {i: token.content.encode() for i, token in added.items()}
        self.pieces = [pieces.get(i, _UNKNOWN) for i in range(max(pieces) + 1)]
        ends = [i for end in _ENDS if (i := self._model.token_to_id(end)) is not None]
        if not ends:
            raise ValueError(
                f"{source} has no token that ends a text: expected one of {', '.join(_ENDS)}"
            )
        self.end = ends[0]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BPE":
        """A tokenizer of at most ``vocab_size`` ids, the same for the same texts.

        Raises ``ValueError`` if ``vocab_size`` has no room for the 256 bytes and the end token.
        """
        least = len(_alphabet()) + 1
        if vocab_size < least:
            raise ValueError(
                f"vocab_size is {vocab_size}: a byte-level BPE needs {least} or more, or use "
                "--tokenizer bytes"
            )
        library = _tokenizers()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=sorted(_alphabet()),
            special_tokens=[END_OF_TEXT],
            show_progress=False,
        )
        model.train_from_iterator(texts, trainer)
        return cls(model.to_str())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "BPE":
        """The tokenizer of a ``tokenizer.json``, or of a folder that holds one."""
        path = Path(path)
        if path.is_dir():
            path /= "tokenizer.json"
        return cls(read_definition(path), str(path))

    def _encode(self, text: str) -> Sequence[int] | np.ndarray:
        return self._model.encode(text, add_special_tokens=False).ids

    def to_json(self) -> JsonObject:
        """All of its ``tokenizer.json``, as the text that the fingerprint is taken of."""
        return {"kind": "bpe", "definition": self.definition}


def read_definition(path: Path) -> str:
    """The text of a ``tokenizer.json``; ``ValueError`` if it cannot be read."""
    try:
        return files.read_bytes(path).decode()
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a tokenizer.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({_brief(error)}): give a tokenizer.json"
        ) from None


def _tokenizers() -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            "the bpe tokenizer needs tokenizers: run pip install tokenizers, or give --tokenizer "
            "bytes"
        ) from None
    return tokenizers


def _brief(error: BaseException) -> str:
    """The first line of the message of ``error``, or its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


@functools.cache
def _alphabet() -> dict[str, int]:
    """The letter that byte-level BPE writes for each byte: itself if it prints, else one above 255.

    GPT-2's: https://github.com/openai/gpt-2/blob/master/src/encoder.py.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(256) if i not in printing]
    letters = printing + [256 + i for i in range(len(others))]
    return {chr(letter): i for letter, i in zip(letters, printing + others, strict=True)}


def make(
    name: str, *, texts: Iterable[str] | None = None, vocab_size: int | None = None
) -> Tokenizer:
    """The tokenizer that the command line calls ``name``.

    ``bytes``, ``gpt2``, ``bpe`` (trained on ``texts`` to ``vocab_size``, which it alone needs), or
    the path of a ``tokenizer.json`` or of its folder. ``ValueError`` lists the choices.
    """
    if name == "bytes":
        return Bytes()
    if name == "gpt2":
        return GPT2()
    if name == "bpe":
        if texts is None or vocab_size is None:
            raise ValueError("the bpe tokenizer is trained: give it a text and a vocab_size")
        return BPE.train(texts, vocab_size)
    if name.endswith(".json") or Path(name).is_dir():
        return BPE.load(name)
    raise ValueError(
        f"unknown tokenizer {name!r}: choose from {', '.join(CHOICES)}, or give the path of a "
        "tokenizer.json"
    )


def from_json(raw: Mapping[str, Json]) -> Tokenizer:
    """The tokenizer that ``to_json`` defined as ``raw``. Raises ``ValueError`` for another."""
    kind = raw.get("kind")
    if kind == "bytes":
        return Bytes()
    if kind == "gpt2":
        return GPT2()
    if kind == "bpe" and isinstance(raw.get("definition"), str):
        return BPE(raw["definition"], "the stored tokenizer")
    raise ValueError(
        f"the stored tokenizer is of kind {kind!r}: expected one of {', '.join(CHOICES)}, complete"
    )


class Stream:
    """Decoder of ids one at a time, which returns text as soon as characters are complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, i: int) -> str:
        """The characters that id ``i`` completes, perhaps none."""
        return self._decoder.decode(self._tokenizer.piece(int(i)))

    def flush(self) -> str:
        """The rest of the text: U+FFFD for a character cut short, else nothing."""
        return self._decoder.decode(b"", final=True)
