"""Corpora loaded, written and refused in tests."""

import os
from pathlib import Path

import numpy as np
import pytest

from shared import corpus, tokenizer

BYTES = tokenizer.Bytes()


def load_corpus(data, vocab_size=256, cache=None, **named):
    named.setdefault("tokenizer", BYTES)
    return corpus.load(str(data), vocab_size=vocab_size, cache=cache or Path(os.devnull), **named)


def all_tokens(loaded):
    return np.concatenate([loaded.train[:], loaded.validation[:]])


def decoded(loaded):
    return all_tokens(loaded).astype(np.uint8).tobytes().decode()


def write_shard(path, tokens, magic=20240520, version=1, count=None, dtype="<u2"):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(tokens, dtype).tobytes())
    return path


def refused(message, data, vocab_size=256, **named):
    with pytest.raises(ValueError, match=message) as caught:
        load_corpus(data, vocab_size, **named)
    assert "\n" not in str(caught.value)
