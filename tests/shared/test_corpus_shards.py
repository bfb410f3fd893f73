"""Files of token ids, of nanoGPT and of llm.c."""

import hashlib
import os
import tracemalloc

import numpy as np
import pytest

from shared.corpus.file_tokens import ChangedFile, FileTokens
from tests.helpers.corpora import all_tokens, load_corpus, refused, write_shard


def test_a_file_of_nanogpt_is_its_tokens(tmp_path):
    tokens = np.arange(1000, dtype="<u2")
    (tmp_path / "all.bin").write_bytes(tokens.tobytes())
    loaded = load_corpus(tmp_path / "all.bin", 1000, tokenizer=None)
    assert np.array_equal(loaded.train, tokens[:950])
    assert np.array_equal(loaded.validation, tokens[950:])
    assert loaded.description["kind"] == "nanogpt"
    assert loaded.description["sha256"] == hashlib.sha256(tokens.tobytes()).hexdigest()
    assert isinstance(loaded.train, FileTokens)


def test_a_folder_of_nanogpt_keeps_its_own_split(tmp_path):
    (tmp_path / "train.bin").write_bytes(np.arange(100, dtype="<u2").tobytes())
    (tmp_path / "val.bin").write_bytes(np.arange(7, dtype="<u2").tobytes())
    (tmp_path / "meta.txt").write_text("not read")
    loaded = load_corpus(tmp_path, tokenizer=None)
    assert np.array_equal(loaded.train, np.arange(100))
    assert np.array_equal(loaded.validation, np.arange(7))
    assert loaded.description["files"] == 2
    assert loaded.description["bytes"] == 214


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
def test_a_shard_of_llmc_is_its_tokens(tmp_path, magic, version, dtype):
    tokens = np.arange(200) * 3
    path = write_shard(tmp_path / "one_val_000.bin", tokens, magic, version, dtype=dtype)
    loaded = load_corpus(path, 600, tokenizer=None, validation_fraction=0.5)
    assert np.array_equal(loaded.train, tokens[:100])
    assert np.array_equal(loaded.validation, tokens[100:])
    assert loaded.train.dtype == np.dtype(dtype)
    assert loaded.description["kind"] == "llm.c"


def test_llmc_shards_are_joined_and_val_shards_validate(tmp_path):
    write_shard(tmp_path / "web_train_000001.bin", range(10, 20))
    write_shard(tmp_path / "web_train_000002.bin", range(20, 25))
    write_shard(tmp_path / "web_val_000000.bin", range(100, 104))
    loaded = load_corpus(tmp_path, tokenizer=None)
    assert loaded.train[:].tolist() == list(range(10, 25))
    assert loaded.validation[:].tolist() == list(range(100, 104))
    assert loaded.description["tokens"] == 19


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.5, 0.9, 0.99])
def test_shards_without_a_val_are_split_at_the_end(tmp_path, fraction):
    for i in range(3):
        write_shard(tmp_path / f"web_{i}.bin", range(10 * i, 10 * i + 10))
    loaded = load_corpus(tmp_path, tokenizer=None, validation_fraction=fraction)
    assert all_tokens(loaded).tolist() == list(range(30))
    assert len(loaded.validation) == int(30 * fraction)


def test_tokens_are_left_in_their_file(tmp_path):
    for i in range(2):
        with open(write_shard(tmp_path / f"{i}.bin", [], count=1 << 26), "r+b") as file:
            file.truncate(1024 + (2 << 26))  # zeros that take no room on the disk
    tracemalloc.start()
    loaded = load_corpus(tmp_path, tokenizer=None)
    assert loaded.train[-3:].tolist() == loaded.validation[-3:].tolist() == [0, 0, 0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(loaded.train) + len(loaded.validation) == 2 << 26
    assert peak < 1 << 22


def test_a_raw_file_of_odd_or_no_length_is_refused(tmp_path):
    path = tmp_path / "all.bin"
    path.write_bytes(bytes(101))
    refused("all.bin is 101 bytes long, an odd number: expected uint16", path, tokenizer=None)
    path.write_bytes(b"")
    refused("all.bin is empty", path, tokenizer=None)


@pytest.mark.parametrize("count", [0, 9, 11, -1])
def test_a_shard_must_be_as_long_as_its_header(tmp_path, count):
    path = write_shard(tmp_path / "one.bin", range(10), count=count)
    refused(f"one.bin holds 10 tokens and its header says {count}", path, tokenizer=None)
    for size in (12, 500, 1024, 1023 + 20):
        path.write_bytes(write_shard(path, range(10)).read_bytes()[:size])
        refused("and its header says 10: copy the file again", path, tokenizer=None)


def test_a_shard_of_another_format_is_refused(tmp_path):
    path = write_shard(tmp_path / "one.bin", range(10), version=2)
    refused("is of version 2: expected 1 after the magic number 20240520", path, tokenizer=None)
    write_shard(path, range(10), magic=20240801, version=1)
    refused("is of version 1: expected 7 after the magic number 20240801", path, tokenizer=None)
    write_shard(path, range(10), magic=1234)
    refused("begins with 1234: expected 20240520 or 20240801", tmp_path, tokenizer=None)


def test_shards_of_two_kinds_or_for_validation_alone_are_refused(tmp_path):
    write_shard(tmp_path / "web_val.bin", range(10))
    refused("holds validation shards alone", tmp_path, tokenizer=None)
    write_shard(tmp_path / "web_train.bin", range(10), 20240801, 7, dtype="<u4")
    refused(
        "web_val.bin is uint16 and .*web_train.bin is uint32: give shards of one kind",
        tmp_path,
        tokenizer=None,
    )


@pytest.mark.parametrize("change", ["cut", "grown", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, change):
    path = tmp_path / "train.bin"
    path.write_bytes(np.arange(5000, dtype="<u2").tobytes())
    loaded = load_corpus(path, 5000, tokenizer=None)
    assert loaded.train[10:12].tolist() == [10, 11]
    if change == "cut":
        os.truncate(path, 100)
    elif change == "grown":
        os.truncate(path, 20_000)
    else:
        path.write_bytes(bytes(10_000))
        os.utime(path, ns=(0, 0))
    with pytest.raises(ChangedFile, match=r"train\.bin has changed since .* restore it"):
        loaded.train[4000:4002]


def test_a_file_that_is_replaced_is_read_as_it_was(tmp_path):
    path = tmp_path / "train.bin"
    path.write_bytes(np.arange(1000, dtype="<u2").tobytes())
    loaded = load_corpus(path, 1000, tokenizer=None)
    (tmp_path / "other").write_bytes(bytes(10))
    (tmp_path / "other").rename(path)
    assert loaded.train[900:902].tolist() == [900, 901]
