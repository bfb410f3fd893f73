"""Bad texts, token shards, caches and tokenizers are refused in one sentence."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import corpus, tokenizer
from tests.helpers.damage import bent, damaged
from tests.helpers.fuzz import TALLY, TEXT, bounded, examples, laid, tried


@examples("text")
@given(content=damaged(TEXT.encode()))
def test_text(ground, content):
    path = laid(ground, "text.txt", content)
    found = tried("text", ground, lambda: _corpus(path))
    if found is not None:
        ids = np.concatenate([found.train[:], found.validation[:]])
        assert ids.astype(np.uint8).tobytes() == content


def _corpus(path: Path, vocab_size: int = 256, cache: Path = Path(os.devnull)) -> corpus.Corpus:
    return corpus.load(str(path), tokenizer.Bytes(), vocab_size, cache=cache)


def _shard(magic: int = 20240520, version: int = 1, kind: str = "<u2") -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, 64
    return header.tobytes() + np.arange(64, dtype=kind).tobytes()


SHARDS = (_shard(), _shard(20240801, 7, "<u4"), np.arange(64, dtype="<u2").tobytes())


@examples("token shards")
@given(
    content=st.sampled_from(SHARDS).flatmap(damaged),
    name=st.sampled_from(("a.bin", "folder/train.bin", "folder/b_val_0.bin")),
)
def test_token_shards(ground, content, name):
    folder = ground / "folder"
    folder.mkdir(exist_ok=True)
    for other in folder.iterdir():
        other.unlink()
    laid(folder, "val.bin" if "train" in name else "b_train_0.bin", SHARDS["a" in name])
    path = laid(ground, name, content)
    found = tried(
        "token shards", ground, lambda: _corpus(folder if "/" in name else path, vocab_size=300)
    )
    if found is not None:
        ids = np.concatenate([found.train[:], found.validation[:]])
        assert ids.max() < 300
        assert ids.nbytes <= 2 * len(content) + 4096, "more tokens than the files hold"


@examples("token cache")
@given(content=st.data())
def test_token_cache(ground, content):
    path, cache = laid(ground, "cached.txt", TEXT.encode()), ground / "cache"
    clean = np.array(_corpus(path, cache=cache).train[:])  # a copy: the file is mapped
    (kept,) = cache.iterdir()
    kept.write_bytes(content.draw(damaged(kept.read_bytes())))
    with bounded():
        again = _corpus(path, cache=cache)
    assert np.array_equal(again.train[:], clean)
    assert [other.name for other in cache.iterdir()] == [kept.name]
    TALLY.setdefault("token cache", Counter())["read"] += 1


@pytest.fixture(scope="module")
def bpe() -> dict[str, Any]:
    """A ``tokenizer.json`` of our own, as an object."""
    return json.loads(tokenizer.BPE.train([TEXT], 290).definition)


@examples("tokenizer.json")
@given(content=st.data())
def test_tokenizer_json(ground, bpe, content):
    vocabulary = bpe["model"]["vocab"]
    least = bpe | {"model": bpe["model"] | {"vocab": dict(list(vocabulary.items())[-9:])}}
    written = content.draw(st.sampled_from((bpe, bpe, least)).flatmap(bent))
    path = laid(ground, "tokenizer.json", written)
    found = tried("tokenizer.json", ground, lambda: tokenizer.make(str(path)))
    if found is not None:
        assert found.vocab_size <= 1 << 22
        ids = found.encode(TEXT)
        assert ids.size == 0 or ids.max() < found.vocab_size
        found.decode(ids)
        tokenizer.from_json(found.to_json())
