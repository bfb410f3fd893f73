"""Sources of text: files, folders, the Python library, data sets."""

import hashlib
import json
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from shared import corpus, tokenizer
from tests.helpers.corpora import BYTES, all_tokens, decoded, load_corpus, refused


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("text")
    assert decoded(load_corpus(tmp_path)) == "text"


def test_a_text_file_is_its_text_split_at_the_end(tmp_path):
    path = tmp_path / "text.md"
    text = "wörds and\r\n words\n" * 50
    path.write_text(text, encoding="utf-8", newline="")
    loaded = load_corpus(path, validation_fraction=0.1)
    assert decoded(loaded) == text
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
    loaded = load_corpus(folder)
    documents = decoded(loaded).split("\0")
    assert sorted(documents) == [f"<text {i}, naïve>\r\n" for i in range(10)]
    assert loaded.description["files"] == 10
    assert loaded.description["bytes"] == len("".join(documents).encode())
    digests = [hashlib.sha256(document.encode()).digest() for document in documents]
    assert loaded.description["sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()


def test_the_order_of_a_folder_depends_on_no_disk(folder, tmp_path):
    order = decoded(load_corpus(folder)).split("\0")
    assert order != sorted(order)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.txt"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert decoded(load_corpus(copy)).split("\0") == order


def test_pythons_own_library_is_text_on_every_machine(tmp_path):
    loaded = load_corpus("python", cache=tmp_path)
    facts = loaded.description
    assert facts["kind"] == "python"
    assert facts["name"].endswith(sys.version.split()[0])
    assert facts["files"] > 300
    assert facts["bytes"] > 5_000_000
    assert facts["tokens"] == facts["bytes"] + facts["files"] - 1
    assert facts["tokens"] // 20 == facts["validation_tokens"] == len(loaded.validation)
    assert json.loads(json.dumps(facts)) == facts
    text = decoded(loaded)
    assert "class JSONDecoder" in text
    assert "import numpy as np" not in text


def test_the_texts_of_a_corpus_train_its_tokenizer(folder):
    assert sorted(corpus.texts(str(folder))) == [f"<text {i}, naïve>\r\n" for i in range(10)]
    pytest.importorskip("tokenizers")
    bpe = tokenizer.make("bpe", texts=corpus.texts(str(folder)), vocab_size=280)
    loaded = load_corpus(folder, 280, tokenizer=bpe)
    documents = bpe.decode(all_tokens(loaded)).split("<|endoftext|>")
    assert sorted(documents) == sorted(corpus.texts(str(folder)))


@pytest.mark.parametrize("data", ["markov", "tokens.bin"])
def test_tokens_train_no_tokenizer(tmp_path, data):
    path = tmp_path / data
    if data.endswith(".bin"):
        path.write_bytes(bytes(100))
        data = str(path)
    with pytest.raises(ValueError, match="holds tokens, not text"):
        corpus.texts(data)


def test_absent_data_is_refused_with_the_choices(tmp_path):
    refused("absent does not exist: give a file, a folder, python, markov", tmp_path / "absent")
    refused("does not exist", tmp_path / "absent.bin")
    refused("^'' is not a file", "")
    refused("/dev/null is not a file", "/dev/null")
    refused("cannot read .*: give readable data", "x" * 5000)


def test_text_that_is_none_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"abc\xff\xfe")
    refused("text.txt is not UTF-8 at byte 3", path)
    path.write_bytes(b"")
    refused("text.txt holds no text", path)
    path.unlink()
    refused("holds no text", tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / ".hidden").write_text("hidden")
    refused("holds no text", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_text_that_may_not_be_read_is_refused(folder):
    (folder / "1.txt").chmod(0)
    refused("cannot read .*1.txt", folder)


def test_a_file_that_fails_while_read_is_named(folder, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    refused(r"cannot read .*\.txt \(Input/output error\)", folder)
    with pytest.raises(ValueError, match=r"cannot read .*\.txt \(Input/output error\)"):
        list(corpus.texts(str(folder)))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_validation_fraction_that_leaves_nothing_is_refused(folder, fraction):
    refused(f"validation_fraction is {fraction}", folder, validation_fraction=fraction)


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
    loaded = load_corpus("hf:org/name")
    assert decoded(loaded).split("\0") == rows
    assert loaded.description["files"] == 2500
    assert loaded.description["kind"] == "hugging face"
    assert decoded(load_corpus("hf:org/name:story")) == "\0".join("x" * 2502)
    assert list(corpus.texts("hf:org/name")) == rows


def test_a_data_set_keeps_its_own_split(datasets):
    datasets.splits["name"] = {
        "train": FakeSplit(text=["one", "two"]),
        "validation": FakeSplit(text=["three"]),
        "test": FakeSplit(text=["four"]),
    }
    loaded = load_corpus("hf:name")
    assert BYTES.decode(loaded.train[:]) == "one\0two"
    assert BYTES.decode(loaded.validation[:]) == "three"
    assert loaded.description["bytes"] == 11


def test_a_data_set_that_cannot_be_had_is_refused(datasets, monkeypatch):
    refused(r"cannot load the data set 'name' \(cannot reach the hub for name\)", "hf:name")
    datasets.splits["name"] = {"test": FakeSplit(text=["four"])}
    refused(r"'name' has splits \['test'\]: expected 'train'", "hf:name")
    datasets.splits["name"] = {"train": FakeSplit(story=["one"], title=["two"])}
    refused("has no column 'text': choose hf:name:COLUMN from story, title", "hf:name")
    datasets.splits["name"] = {"train": FakeSplit(text=[None])}
    refused("holds no text", "hf:name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("needs the datasets package: run pip install datasets", "hf:name")
