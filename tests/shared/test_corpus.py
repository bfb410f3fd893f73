"""Corpora: what is read is what was written, checked, mapped, cached, and described."""

import hashlib
import json
import math
import os
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

from shared import corpus, tokenizer
from shared.corpus import Concatenated, Markov

BYTES = tokenizer.Bytes()


def _load(data, vocab_size=256, cache=None, **named):
    named.setdefault("tokenizer", BYTES)
    return corpus.load(str(data), vocab_size=vocab_size, cache=cache or Path(os.devnull), **named)


def _all(loaded):
    return np.concatenate([loaded.train[:], loaded.validation[:]])


def _text(loaded):
    return _all(loaded).astype(np.uint8).tobytes().decode()


def _shard(path, tokens, magic=20240520, version=1, count=None, dtype="<u2"):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(tokens, dtype).tobytes())
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder of ten texts, and files that are none."""
    root = tmp_path / "texts"
    (root / "inner" / "most").mkdir(parents=True)
    (root / ".git").mkdir()
    for i in range(10):
        where = root if i % 2 else root / "inner" / "most"
        (where / f"{i}.txt").write_text(f"<text {i}, naïve>\r\n", encoding="utf-8", newline="")
    (root / ".git" / "config").write_text("hidden")
    (root / ".hidden.txt").write_text("hidden")
    (root / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (root / "empty.txt").write_bytes(b"")
    return root


# Several arrays as one


def test_a_slice_of_shards_is_the_slice_of_them_as_one():
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


# Text


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("text")
    assert _text(_load(tmp_path)) == "text"


def test_a_text_file_is_its_text_split_at_the_end(tmp_path):
    path = tmp_path / "text.md"
    text = "wörds and\r\n words\n" * 50
    path.write_text(text, encoding="utf-8", newline="")
    loaded = _load(path, validation_fraction=0.1)
    assert _text(loaded) == text
    assert len(loaded.validation) == len(text.encode()) // 10
    assert loaded.train.dtype == loaded.validation.dtype == np.uint16
    assert loaded.entropy_rate is None
    assert loaded.description == {
        "name": str(path),
        "kind": "file",
        "files": 1,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "tokenizer": "bytes",
        "tokens": len(text.encode()),
        "validation_tokens": len(loaded.validation),
    }


def test_a_folder_is_its_texts_with_the_end_between_them(folder):
    loaded = _load(folder)
    documents = _text(loaded).split("\0")
    assert sorted(documents) == [f"<text {i}, naïve>\r\n" for i in range(10)]
    assert loaded.description["files"] == 10
    assert loaded.description["bytes"] == len("".join(documents).encode())
    digests = [hashlib.sha256(document.encode()).digest() for document in documents]
    assert loaded.description["sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()


def test_the_order_of_a_folder_is_that_of_no_name_and_of_no_disk(folder, tmp_path):
    order = _text(_load(folder)).split("\0")
    assert order != sorted(order)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.txt"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert _text(_load(copy)).split("\0") == order


def test_pythons_own_library_is_text_on_every_machine(tmp_path):
    loaded = _load("python", cache=tmp_path)
    facts = loaded.description
    assert facts["kind"] == "python"
    assert facts["name"].endswith(sys.version.split()[0])
    assert facts["files"] > 300
    assert facts["bytes"] > 5_000_000
    assert facts["tokens"] == facts["bytes"] + facts["files"] - 1
    assert facts["tokens"] // 20 == facts["validation_tokens"] == len(loaded.validation)
    assert json.loads(json.dumps(facts)) == facts
    text = _text(loaded)
    assert "class JSONDecoder" in text
    assert "import numpy as np" not in text


def test_the_texts_of_a_corpus_train_its_tokenizer(folder):
    assert sorted(corpus.texts(str(folder))) == [f"<text {i}, naïve>\r\n" for i in range(10)]
    pytest.importorskip("tokenizers")
    bpe = tokenizer.make("bpe", texts=corpus.texts(str(folder)), vocab_size=280)
    loaded = _load(folder, 280, tokenizer=bpe)
    documents = bpe.decode(_all(loaded)).split("<|endoftext|>")
    assert sorted(documents) == sorted(corpus.texts(str(folder)))


@pytest.mark.parametrize("data", ["markov", "tokens.bin"])
def test_tokens_train_no_tokenizer(tmp_path, data):
    path = tmp_path / data
    if data.endswith(".bin"):
        path.write_bytes(bytes(100))
        data = str(path)
    with pytest.raises(ValueError, match="holds tokens, not text"):
        corpus.texts(data)


def test_blocks_are_the_text_cut_only_where_the_tokens_are_cut():
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


# The cache


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
    return _load(folder, tokenizer=counting, cache=cache), counting.calls


def test_a_text_is_tokenised_once_and_mapped_from_then_on(folder, tmp_path):
    cache = tmp_path / "deep" / "cache"
    first, calls = _cached(folder, cache)
    assert calls == 10
    second, calls = _cached(folder, cache)
    assert calls == 0
    assert np.array_equal(_all(first), _all(second))
    assert len(list(cache.iterdir())) == 1
    for loaded in (first, second):
        assert isinstance(loaded.train, np.memmap)
        assert isinstance(loaded.validation, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            loaded.train[0] = 1


def test_a_change_of_the_text_or_of_the_tokenizer_is_not_answered_from_the_cache(folder, tmp_path):
    cache = tmp_path / "cache"
    _cached(folder, cache)
    (folder / "1.txt").write_text("other words")
    loaded, calls = _cached(folder, cache)
    assert calls == 10
    assert "other words" in _text(loaded)
    pytest.importorskip("tokenizers")
    bpe = tokenizer.BPE.train(["words"], 260)
    _load(folder, 260, tokenizer=bpe, cache=cache)
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
    assert np.array_equal(_all(first), _all(second))
    assert path.read_bytes() == whole
    assert _cached(folder, cache)[1] == 0


def test_a_cache_that_cannot_be_written_does_not_end_the_run(folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    expected = _all(_load(folder))
    for cache in (file, file / "inner", Path("/proc/nowhere")):
        loaded, calls = _cached(folder, cache)
        assert calls == 10
        assert np.array_equal(_all(loaded), expected)


def test_a_write_that_fails_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    loaded, _ = _cached(folder, cache)
    assert len(_text(loaded).split("\0")) == 10
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


# Tokens


def test_a_file_of_nanogpt_is_its_tokens(tmp_path):
    tokens = np.arange(1000, dtype="<u2")
    (tmp_path / "all.bin").write_bytes(tokens.tobytes())
    loaded = _load(tmp_path / "all.bin", 1000, tokenizer=None)
    assert np.array_equal(loaded.train, tokens[:950])
    assert np.array_equal(loaded.validation, tokens[950:])
    assert loaded.description["kind"] == "nanogpt"
    assert loaded.description["sha256"] == hashlib.sha256(tokens.tobytes()).hexdigest()
    assert isinstance(loaded.train, np.memmap)


def test_a_folder_of_nanogpt_keeps_its_own_split(tmp_path):
    (tmp_path / "train.bin").write_bytes(np.arange(100, dtype="<u2").tobytes())
    (tmp_path / "val.bin").write_bytes(np.arange(7, dtype="<u2").tobytes())
    (tmp_path / "meta.txt").write_text("not read")
    loaded = _load(tmp_path, tokenizer=None)
    assert np.array_equal(loaded.train, np.arange(100))
    assert np.array_equal(loaded.validation, np.arange(7))
    assert loaded.description["files"] == 2
    assert loaded.description["bytes"] == 214


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
def test_a_shard_of_llmc_is_its_tokens(tmp_path, magic, version, dtype):
    tokens = np.arange(200) * 3
    path = _shard(tmp_path / "one_val_000.bin", tokens, magic, version, dtype=dtype)
    loaded = _load(path, 600, tokenizer=None, validation_fraction=0.5)
    assert np.array_equal(loaded.train, tokens[:100])
    assert np.array_equal(loaded.validation, tokens[100:])
    assert loaded.train.dtype == np.dtype(dtype)
    assert loaded.description["kind"] == "llm.c"


def test_shards_of_llmc_are_one_row_and_those_named_val_validate(tmp_path):
    _shard(tmp_path / "web_train_000001.bin", range(10, 20))
    _shard(tmp_path / "web_train_000002.bin", range(20, 25))
    _shard(tmp_path / "web_val_000000.bin", range(100, 104))
    loaded = _load(tmp_path, tokenizer=None)
    assert loaded.train[:].tolist() == list(range(10, 25))
    assert loaded.validation[:].tolist() == list(range(100, 104))
    assert loaded.description["tokens"] == 19


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.5, 0.9, 0.99])
def test_shards_without_a_val_are_split_at_the_end(tmp_path, fraction):
    for i in range(3):
        _shard(tmp_path / f"web_{i}.bin", range(10 * i, 10 * i + 10))
    loaded = _load(tmp_path, tokenizer=None, validation_fraction=fraction)
    assert _all(loaded).tolist() == list(range(30))
    assert len(loaded.validation) == int(30 * fraction)


def test_tokens_are_mapped_and_not_read_into_memory(tmp_path):
    for i in range(2):
        with open(_shard(tmp_path / f"{i}.bin", [], count=1 << 26), "r+b") as file:
            file.truncate(1024 + (2 << 26))  # zeros that take no room on the disk
    tracemalloc.start()
    loaded = _load(tmp_path, tokenizer=None)
    assert loaded.train[-3:].tolist() == loaded.validation[-3:].tolist() == [0, 0, 0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(loaded.train) + len(loaded.validation) == 2 << 26
    assert peak < 1 << 22


# What is refused


def _refused(message, data, vocab_size=256, **named):
    with pytest.raises(ValueError, match=message) as caught:
        _load(data, vocab_size, **named)
    assert "\n" not in str(caught.value)


def test_data_that_is_not_there_is_refused_with_what_there_is(tmp_path):
    _refused("absent does not exist: give a file, a folder, python, markov", tmp_path / "absent")
    _refused("does not exist", tmp_path / "absent.bin")
    _refused("^'' is not a file", "")
    _refused("/dev/null is not a file", "/dev/null")
    _refused("cannot read .*: give readable data", "x" * 5000)


def test_text_that_is_none_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"abc\xff\xfe")
    _refused("text.txt is not UTF-8 at byte 3", path)
    path.write_bytes(b"")
    _refused("text.txt holds no text", path)
    path.unlink()
    _refused("holds no text", tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / ".hidden").write_text("hidden")
    _refused("holds no text", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_text_that_may_not_be_read_is_refused(folder):
    (folder / "1.txt").chmod(0)
    _refused("cannot read .*1.txt", folder)


def test_a_file_that_fails_while_it_is_read_is_refused_by_its_path(folder, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    _refused(r"cannot read .*\.txt \(Input/output error\)", folder)
    with pytest.raises(ValueError, match=r"cannot read .*\.txt \(Input/output error\)"):
        list(corpus.texts(str(folder)))


def test_text_without_a_tokenizer_is_refused(folder):
    _refused("is text: give a tokenizer", folder, tokenizer=None)


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(folder):
    _refused("the bytes tokenizer has 256 ids and the model a vocab_size of 255", folder, 255)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_validation_fraction_that_leaves_nothing_is_refused(folder, fraction):
    _refused(f"validation_fraction is {fraction}", folder, validation_fraction=fraction)


def test_a_raw_file_of_odd_length_or_of_none_is_refused(tmp_path):
    path = tmp_path / "all.bin"
    path.write_bytes(bytes(101))
    _refused("all.bin is 101 bytes long, an odd number: expected uint16", path, tokenizer=None)
    path.write_bytes(b"")
    _refused("all.bin is empty", path, tokenizer=None)


@pytest.mark.parametrize("count", [0, 9, 11, -1])
def test_a_shard_of_another_length_than_its_header_says_is_refused(tmp_path, count):
    path = _shard(tmp_path / "one.bin", range(10), count=count)
    _refused(f"one.bin holds 10 tokens and its header says {count}", path, tokenizer=None)
    for size in (12, 500, 1024, 1023 + 20):
        path.write_bytes(_shard(path, range(10)).read_bytes()[:size])
        _refused("and its header says 10: copy the file again", path, tokenizer=None)


def test_a_shard_of_another_format_is_refused(tmp_path):
    path = _shard(tmp_path / "one.bin", range(10), version=2)
    _refused("is of version 2: expected 1 after the magic number 20240520", path, tokenizer=None)
    _shard(path, range(10), magic=20240801, version=1)
    _refused("is of version 1: expected 7 after the magic number 20240801", path, tokenizer=None)
    _shard(path, range(10), magic=1234)
    _refused("begins with 1234: expected 20240520 or 20240801", tmp_path, tokenizer=None)


def test_shards_of_two_kinds_or_for_validation_alone_are_refused(tmp_path):
    _shard(tmp_path / "web_val.bin", range(10))
    _refused("holds validation shards alone", tmp_path, tokenizer=None)
    _shard(tmp_path / "web_train.bin", range(10), 20240801, 7, dtype="<u4")
    _refused(
        "web_val.bin is uint16 and .*web_train.bin is uint32: give shards of one kind",
        tmp_path,
        tokenizer=None,
    )


def test_a_token_that_the_model_does_not_know_is_named_with_its_file_and_place(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(corpus, "_CHUNK", 64)
    tokens = np.zeros(1000, np.uint16)
    tokens[[777, 900]] = 256
    _shard(tmp_path / "a.bin", range(10))
    path = _shard(tmp_path / "b.bin", tokens)
    for data in (path, tmp_path):
        _refused("b.bin holds token 256 at position 777: expected 0 to 255", data, tokenizer=None)
    assert _all(_load(path, 257, tokenizer=None)).max() == 256


# Data sets of Hugging Face


class FakeSplit:
    """As much of a ``datasets.Dataset`` as is used."""

    def __init__(self, **columns):
        self.column_names = list(columns)
        self._columns = columns

    def iter(self, batch_size):
        rows = len(next(iter(self._columns.values())))
        for start in range(0, rows, batch_size):
            yield {name: rows[start : start + batch_size] for name, rows in self._columns.items()}


@pytest.fixture
def datasets(monkeypatch):
    """Stands in for the datasets package; ``splits`` is what there is, by the data set's name."""
    fake = types.ModuleType("datasets")
    fake.splits = {}

    def load_dataset(name):
        if name not in fake.splits:
            raise ConnectionError(f"cannot reach the hub\nfor {name}")
        return fake.splits[name]

    fake.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


def test_a_data_set_is_the_rows_of_its_column(datasets):
    rows = [f"row {i}" for i in range(2500)]
    datasets.splits["org/name"] = {"train": FakeSplit(text=[*rows, None, ""], story=["x"] * 2502)}
    loaded = _load("hf:org/name")
    assert _text(loaded).split("\0") == rows
    assert loaded.description["files"] == 2500
    assert loaded.description["kind"] == "hugging face"
    assert _text(_load("hf:org/name:story")) == "\0".join("x" * 2502)
    assert list(corpus.texts("hf:org/name")) == rows


def test_a_data_set_keeps_its_own_split(datasets):
    datasets.splits["name"] = {
        "train": FakeSplit(text=["one", "two"]),
        "validation": FakeSplit(text=["three"]),
        "test": FakeSplit(text=["four"]),
    }
    loaded = _load("hf:name")
    assert BYTES.decode(loaded.train[:]) == "one\0two"
    assert BYTES.decode(loaded.validation[:]) == "three"
    assert loaded.description["bytes"] == 11


def test_a_data_set_that_cannot_be_had_is_refused(datasets, monkeypatch):
    _refused(r"cannot load the data set 'name' \(cannot reach the hub for name\)", "hf:name")
    datasets.splits["name"] = {"test": FakeSplit(text=["four"])}
    _refused(r"'name' has splits \['test'\]: expected 'train'", "hf:name")
    datasets.splits["name"] = {"train": FakeSplit(story=["one"], title=["two"])}
    _refused("has no column 'text': choose hf:name:COLUMN from story, title", "hf:name")
    datasets.splits["name"] = {"train": FakeSplit(text=[None])}
    _refused("holds no text", "hf:name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    _refused("needs the datasets package: run pip install datasets", "hf:name")


# The chain whose entropy is known


def test_the_entropy_rate_of_independent_symbols_is_their_entropy():
    p = np.array([0.9, 0.1])
    chain = Markov(probabilities=np.stack([p, p]))
    by_hand = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert abs(chain.entropy_rate - by_hand) < 1e-12
    assert np.allclose(chain.stationary, p, atol=1e-12)


def test_the_entropy_rate_of_two_states_is_known_by_hand():
    # Stays with 3/4 and 1/2: a third of the time in the second state, two thirds in the first.
    chain = Markov(probabilities=np.array([[0.75, 0.25], [0.5, 0.5]]))
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert abs(chain.entropy_rate - (2 / 3 * first + 1 / 3 * math.log(2))) < 1e-12


def test_the_stationary_state_is_left_as_it_is_by_a_move():
    chain = Markov.seeded(5)
    assert np.allclose(chain.stationary @ chain.probabilities, chain.stationary)
    assert abs(chain.stationary.sum() - 1) < 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_entropy_rate_is_what_the_chain_loses_on_its_own_tokens(seed):
    chain = Markov.seeded(seed)
    tokens = chain.sample(200_000, seed=9)
    nats = -np.log(chain.probabilities[tokens[:-1], tokens[1:]])
    # Batches of a hundred are all but independent: their spread gives the mean's own.
    batches = nats[: len(nats) // 100 * 100].reshape(-1, 100).mean(axis=1)
    error = batches.std() / math.sqrt(len(batches))
    assert abs(chain.nats(tokens) - nats.mean()) < 1e-12
    assert abs(nats.mean() - chain.entropy_rate) < 5 * error
    assert error < 0.01
    # And it leaves something to learn: far less than the symbols' own entropy.
    alone = -(chain.stationary * np.log(chain.stationary)).sum()
    assert 0.5 < chain.entropy_rate < alone - 0.5 < math.log(16)


def test_the_symbols_come_as_often_as_the_chain_says():
    chain = Markov.seeded(3)
    counts = np.bincount(chain.sample(200_000, seed=1), minlength=16)
    assert np.abs(counts / counts.sum() - chain.stationary).max() < 0.01


def test_a_sample_depends_on_its_seed_alone_and_goes_on_as_it_began():
    chain = Markov.seeded(0)
    assert chain.sample(100, 1).dtype == np.uint8
    assert np.array_equal(chain.sample(1000, 1), Markov.seeded(0).sample(1000, 1))
    assert np.array_equal(chain.sample(1000, 1)[:50], chain.sample(50, 1))
    assert not np.array_equal(chain.sample(1000, 1), chain.sample(1000, 2))
    assert [len(chain.sample(n, 1)) for n in range(4)] == [0, 1, 2, 3]


def test_markov_is_a_corpus_of_two_streams_with_its_entropy_rate():
    loaded = _load("markov:7", 16, tokenizer=None)
    chain = Markov.seeded(7)
    assert loaded.entropy_rate == loaded.description["entropy_rate"] == chain.entropy_rate
    assert len(loaded.train) >= 1_000_000
    assert max(loaded.train.max(), loaded.validation.max()) == 15
    n = len(loaded.validation)
    assert not np.array_equal(loaded.train[:n], loaded.validation)
    assert abs(chain.nats(loaded.train[:]) - loaded.entropy_rate) < 0.01
    assert loaded.description["kind"] == "markov"
    assert json.loads(json.dumps(loaded.description)) == loaded.description


def test_markov_without_a_seed_is_that_of_seed_zero(monkeypatch):
    monkeypatch.setattr(corpus, "_MARKOV_TOKENS", (1000, 100))
    plain, zero = _load("markov", tokenizer=None), _load("markov:0", tokenizer=None)
    assert np.array_equal(plain.train, zero.train)
    assert plain.description | {"name": ""} == zero.description | {"name": ""}


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5", str(1 << 32)])
def test_a_seed_that_is_none_is_refused(seed):
    _refused(f"has seed '{seed}': expected markov:SEED", f"markov:{seed}")


def test_a_vocabulary_without_room_for_the_symbols_is_refused():
    _refused("vocab_size is 15: markov has 16 symbols", "markov", 15)
