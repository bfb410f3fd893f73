"""Text as token ids: encoded in blocks, and kept in a cache."""

import os
from pathlib import Path

import numpy as np
import pytest

from shared import corpus, tokenizer
from tests.helpers.corpora import BYTES, all_tokens, decoded, load_corpus, refused


def test_blocks_are_cut_only_between_tokens():
    pytest.importorskip("tokenizers")
    text = (
        "if x:\n    y = 1\n\n\nz = 'a'\nfor i in x:\n\tprint(i)  \n  \nend\r\nend\n" * 30
    ) + "x\n"
    bpe = tokenizer.BPE.train([text], 300)
    whole = bpe.encode(text)
    for size in (1, 7, 50, 400):
        cut = list(corpus.blocks(text, size))
        assert "".join(cut) == text
        assert len(cut) > 1
        assert np.array_equal(np.concatenate([bpe.encode(block) for block in cut]), whole), size
    assert list(corpus.blocks("", 10)) == [""]


class Counting(tokenizer.Bytes):
    """Bytes, and how often it was asked to encode."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def _encode(self, text):
        self.calls += 1
        return super()._encode(text)


def _cached(folder, cache):
    counting = Counting()
    return load_corpus(folder, tokenizer=counting, cache=cache), counting.calls


def test_a_text_is_tokenised_once_and_mapped_from_then_on(folder, tmp_path):
    cache = tmp_path / "deep" / "cache"
    first, calls = _cached(folder, cache)
    assert calls == 10
    second, calls = _cached(folder, cache)
    assert calls == 0
    assert np.array_equal(all_tokens(first), all_tokens(second))
    assert len(list(cache.iterdir())) == 1
    for loaded in (first, second):
        assert isinstance(loaded.train, np.memmap)
        assert isinstance(loaded.validation, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            loaded.train[0] = 1


def test_the_cache_depends_on_text_and_tokenizer(folder, tmp_path):
    cache = tmp_path / "cache"
    _cached(folder, cache)
    (folder / "1.txt").write_text("other words")
    loaded, calls = _cached(folder, cache)
    assert calls == 10
    assert "other words" in decoded(loaded)
    pytest.importorskip("tokenizers")
    bpe = tokenizer.BPE.train(["words"], 260)
    load_corpus(folder, 260, tokenizer=bpe, cache=cache)
    assert len(list(cache.iterdir())) == 3


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-2],
    "half": lambda content: content[: len(content) // 4 * 2],
    "digest alone": lambda content: content[-32:],
    "one bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "foreign": lambda content: b"something else" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(folder, tmp_path, damage):
    cache = tmp_path / "cache"
    first, _ = _cached(folder, cache)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.unlink()  # a mapped file must not be cut short under its reader
    path.write_bytes(DAMAGES[damage](whole))
    second, calls = _cached(folder, cache)
    assert calls == 10
    assert np.array_equal(all_tokens(first), all_tokens(second))
    assert path.read_bytes() == whole
    assert _cached(folder, cache)[1] == 0


def test_an_unwritable_cache_does_not_end_the_run(folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    expected = all_tokens(load_corpus(folder))
    for cache in (file, file / "inner", Path("/proc/nowhere")):
        loaded, calls = _cached(folder, cache)
        assert calls == 10
        assert np.array_equal(all_tokens(loaded), expected)


def test_a_write_that_fails_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    loaded, _ = _cached(folder, cache)
    assert len(decoded(loaded).split("\0")) == 10
    assert list(cache.iterdir()) == []


def test_the_default_cache_is_where_the_desktop_standard_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert corpus.default_cache() == tmp_path / "twingrad"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert corpus.default_cache() == tmp_path / ".cache" / "twingrad"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert corpus.default_cache() == Path(os.devnull) / "twingrad"


def test_the_default_cache_is_used_unless_another_is_given(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    corpus.load(str(folder), BYTES, 256)
    assert len(list((tmp_path / "twingrad").iterdir())) == 1


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(folder):
    refused("the bytes tokenizer has 256 ids and the model a vocab_size of 255", folder, 255)


def test_text_without_a_tokenizer_is_refused(folder):
    refused("is text: give a tokenizer", folder, tokenizer=None)
