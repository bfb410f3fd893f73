"""Rows of token ids: put end to end, and checked."""

import numpy as np

from shared.corpus import Concatenated
from tests.helpers.corpora import all_tokens, load_corpus, refused, write_shard


def test_a_slice_of_shards_equals_that_of_one_array():
    whole = np.arange(20, dtype=np.uint16)
    shards = Concatenated([whole[:3], whole[3:3], whole[3:4], whole[4:15], whole[15:]])
    assert len(shards) == 20
    assert shards.dtype == np.uint16
    for start in range(22):
        for stop in range(22):
            assert np.array_equal(shards[start:stop], whole[start:stop]), (start, stop)
            assert shards[start:stop].dtype == np.uint16
    assert np.array_equal(shards[-5:], whole[-5:])
    assert np.array_equal(shards[:], whole)


def test_a_slice_within_one_shard_is_not_copied():
    part = np.arange(10, dtype=np.uint16)
    assert np.shares_memory(Concatenated([part, part])[2:5], part)


def test_an_unknown_token_is_named_with_file_and_position(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.corpus.tokens._CHUNK", 64)
    tokens = np.zeros(1000, np.uint16)
    tokens[[777, 900]] = 256
    write_shard(tmp_path / "a.bin", range(10))
    path = write_shard(tmp_path / "b.bin", tokens)
    for data in (path, tmp_path):
        refused("b.bin holds token 256 at position 777: expected 0 to 255", data, tokenizer=None)
    assert all_tokens(load_corpus(path, 257, tokenizer=None)).max() == 256
