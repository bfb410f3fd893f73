"""Tokenizers: every text comes back from its ids, whole or streamed, and they from JSON."""

import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from shared import tokenizer

TEXT = "def f(x):\n    return 'héllo, wörld — 東京 🙂' + x  # naïve\r\n\n\n\tend\0"
TEXTS = [TEXT * 3, "the cat sat on the mat, the hat and the bat\n" * 20, "x = [1, 2, 3]\n" * 20]


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers")
    return tokenizer.BPE.train(TEXTS, 300)


@pytest.fixture
def gpt2(monkeypatch):
    """GPT-2's class over a small vocabulary: its own files need the network."""
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257}
    encoding = tiktoken.Encoding(
        "small", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 258}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: encoding)
    return tokenizer.GPT2()


@pytest.fixture(params=["bytes", "bpe", "gpt2"])
def each(request):
    if request.param == "bytes":
        return tokenizer.Bytes()
    return request.getfixturevalue(request.param)


def test_a_text_comes_back_from_its_ids(each):
    for text in ["", "a", TEXT, *TEXTS, "".join(map(chr, range(0x500)))]:
        ids = each.encode(text)
        assert ids.dtype == np.uint16
        assert ids.ndim == 1
        assert len(ids) == 0 or ids.max() < each.vocab_size
        assert each.decode(ids) == text


def test_every_byte_has_an_id(each):
    assert {bytes([i]) for i in range(256)} <= set(each.pieces)


def test_what_is_no_utf8_decodes_to_the_replacement_character(each):
    byte = {piece: i for i, piece in enumerate(each.pieces)}
    for broken in (b"a\xffb", b"\xe6\x9d", b"\xc3a", b"\xf0\x9f\x99", b"\x80\x80", b"\xed\xa0\x80"):
        ids = [byte[broken[i : i + 1]] for i in range(len(broken))]
        assert each.decode(ids) == broken.decode(errors="replace")


def test_an_id_beyond_the_vocabulary_decodes_to_the_replacement_character(each):
    assert each.decode([each.vocab_size, -1]) == "\ufffd\ufffd"


def test_the_end_of_a_document_cannot_be_written_as_text(each):
    text = "a<|endoftext|>b"
    ids = each.encode(text)
    assert each.end not in ids
    assert each.decode(ids) == text
    assert 0 <= each.end < each.vocab_size


def test_half_a_character_is_refused_with_its_place(each):
    with pytest.raises(ValueError, match=r"holds '\\udc80' at position 2"):
        each.encode("ab\udc80")


def test_streamed_text_is_the_whole_text_in_whole_characters(each):
    ids = each.encode(TEXT).tolist()
    stream = tokenizer.Stream(each)
    parts = [stream.push(i) for i in ids]
    assert "".join(parts) + stream.flush() == TEXT
    assert not any("\ufffd" in part for part in parts)


def test_streamed_text_is_the_whole_text_for_any_ids(each):
    draw = random.Random(0)
    for _ in range(50):
        ids = [draw.randrange(each.vocab_size) for _ in range(40)]
        stream = tokenizer.Stream(each)
        assert "".join(map(stream.push, ids)) + stream.flush() == each.decode(ids)


def test_text_is_streamed_as_soon_as_it_is_whole():
    stream = tokenizer.Stream(tokenizer.Bytes())
    assert [stream.push(i) for i in "aé🙂".encode()] == ["a", "", "é", "", "", "", "🙂"]
    assert stream.flush() == ""
    assert stream.push(0xE6) == ""
    assert stream.flush() == "\ufffd"


def test_a_tokenizer_comes_back_from_json(each):
    again = tokenizer.from_json(json.loads(json.dumps(each.to_json())))
    assert type(again) is type(each)
    assert again.fingerprint == each.fingerprint
    assert (again.name, again.end, again.pieces) == (each.name, each.end, each.pieces)
    assert np.array_equal(again.encode(TEXT), each.encode(TEXT))


def test_fingerprints_tell_tokenizers_apart(bpe):
    others = [
        tokenizer.Bytes(),
        tokenizer.BPE.train(TEXTS, 280),
        tokenizer.BPE.train(TEXTS[1:], 300),
    ]
    prints = {one.fingerprint for one in [bpe, *others]}
    assert len(prints) == 4
    assert all(len(one) == 64 for one in prints)


@pytest.mark.parametrize(
    "raw",
    [{}, {"kind": "words"}, {"kind": "bpe"}, {"kind": "bpe", "definition": 1}, {"kind": None}],
)
def test_a_stored_tokenizer_that_is_not_ours_is_refused(raw):
    with pytest.raises(ValueError, match=r"stored tokenizer is of kind .*expected one of bytes"):
        tokenizer.from_json(raw)


def test_bytes_are_the_bytes_of_the_text():
    assert tokenizer.Bytes().encode(TEXT).tolist() == list(TEXT.encode())


def test_ids_are_of_the_smallest_dtype_that_holds_them():
    wide = tokenizer.Bytes()
    assert wide.dtype == np.uint16
    wide.pieces = [b"?"] * (1 << 16)
    assert wide.dtype == np.uint16
    wide.pieces = [b"?"] * ((1 << 16) + 1)
    assert wide.dtype == wide.encode("a").dtype == np.uint32


def test_trained_bpe_is_the_same_each_time_and_has_learned(bpe):
    code = (
        "import sys, json; from shared.tokenizer import BPE; "
        "print(BPE.train(json.load(sys.stdin), 300).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True
    )
    assert done.stdout.strip() == bpe.fingerprint, done.stderr
    assert bpe.vocab_size == 300
    assert b" the" in bpe.pieces
    assert bpe.pieces[bpe.end] == b"<|endoftext|>"
    assert len(bpe.encode(TEXTS[1])) < len(TEXTS[1]) / 2


def test_a_short_text_trains_a_smaller_vocabulary():
    pytest.importorskip("tokenizers")
    assert tokenizer.BPE.train(["ab"], 5000).vocab_size == 258


def test_decoding_is_that_of_the_library(bpe):
    library = pytest.importorskip("tokenizers")
    theirs = library.Tokenizer.from_str(bpe.definition)
    draw = random.Random(1)
    for _ in range(50):
        ids = [draw.randrange(bpe.vocab_size) for _ in range(30)]
        assert bpe.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_a_tokenizer_json_is_loaded_from_path_or_folder(bpe, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(bpe.definition, encoding="utf-8")
    for name in (str(path), str(tmp_path)):
        loaded = tokenizer.make(name)
        assert loaded.fingerprint == bpe.fingerprint
        assert np.array_equal(loaded.encode(TEXT), bpe.encode(TEXT))


def test_no_tokenizer_adds_special_tokens(bpe):
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, processors

    model = Tokenizer.from_str(bpe.definition)
    model.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bpe.end)]
    )
    assert np.array_equal(tokenizer.BPE(model.to_str()).encode(TEXT), bpe.encode(TEXT))


def _changed(bpe, change):
    raw = json.loads(bpe.definition)
    change(raw)
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(pre_tokenizer=None), "is not a byte-level BPE"),
        (lambda raw: raw["model"]["vocab"].pop("é"), "is not a byte-level BPE"),
        (
            lambda raw: raw["model"].update(continuing_subword_prefix="##"),
            "is (no tokenizer.json|not a byte-level BPE)",
        ),
        (lambda raw: raw.update(added_tokens=[]), "has no token that ends a text"),
        (lambda raw: raw.pop("model"), "is no tokenizer.json"),
        (lambda raw: raw["model"]["vocab"].update(far=1 << 31), "has id 2147483648: expected ids"),
        (lambda raw: raw["model"]["vocab"].update(again=7), "gives one id to two tokens"),
    ],
)
def test_another_kind_of_tokenizer_json_is_refused(bpe, tmp_path, change, message):
    if "ends" in message:
        # The end token is one of the vocabulary as well.
        def change(raw, first=change):
            first(raw)
            raw["model"]["vocab"] = {
                "zz" if k == "<|endoftext|>" else k: i for k, i in raw["model"]["vocab"].items()
            }

    path = tmp_path / "tokenizer.json"
    path.write_text(_changed(bpe, change), encoding="utf-8")
    with pytest.raises(ValueError, match=f"tokenizer.json {message}") as caught:
        tokenizer.BPE.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 3}'])
def test_a_damaged_tokenizer_json_is_refused_by_its_path(tmp_path, content):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json (is no|cannot be read)") as caught:
        tokenizer.BPE.load(path)
    assert "\n" not in str(caught.value)


def test_an_absent_tokenizer_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.json does not exist: give a tokenizer\.json"):
        tokenizer.make(str(tmp_path / "absent.json"))
    with pytest.raises(ValueError, match=r"tokenizer\.json does not exist"):
        tokenizer.make(str(tmp_path))


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="vocab_size is 256: a byte-level BPE needs 257 or more"):
        tokenizer.BPE.train(TEXTS, 256)


def test_the_names_of_the_command_line_make_tokenizers(bpe, gpt2):
    assert isinstance(tokenizer.make("bytes"), tokenizer.Bytes)
    assert tokenizer.make("gpt2").fingerprint == gpt2.fingerprint
    assert tokenizer.make("bpe", texts=iter(TEXTS), vocab_size=300).fingerprint == bpe.fingerprint


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(
        ValueError, match=r"unknown tokenizer 'bites': choose from bytes, gpt2, bpe"
    ):
        tokenizer.make("bites")


def test_bpe_without_a_text_is_refused():
    with pytest.raises(ValueError, match="give it a text and a vocab_size"):
        tokenizer.make("bpe", vocab_size=300)
    with pytest.raises(ValueError, match="give it a text and a vocab_size"):
        tokenizer.make("bpe", texts=TEXTS)


@pytest.mark.parametrize(("library", "name"), [("tiktoken", "gpt2"), ("tokenizers", "bpe")])
def test_an_absent_library_is_named_with_its_install_command(monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=f"needs {library}: run pip install {library}(,|$)"):
        tokenizer.make(name, texts=TEXTS, vocab_size=300)


def test_gpt2_without_its_files_says_what_to_do(monkeypatch, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    requests = pytest.importorskip("requests")

    def unreachable(*args, **named):
        raise requests.ConnectionError("no route\nto the host")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    with pytest.raises(ValueError, match=r"\(no route\): .*TIKTOKEN_CACHE_DIR.* bytes or bpe$"):
        tokenizer.make("gpt2")


def test_gpt2_does_not_wait_for_a_silent_network(monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: time.sleep(2))
    monkeypatch.setattr(tokenizer, "_PATIENCE", 0.1)
    with pytest.raises(ValueError, match=r"not at hand \(no answer in 0 s\)"):
        tokenizer.make("gpt2")


def test_gpt2_is_gpt2():
    pytest.importorskip("tiktoken")
    try:
        real = tokenizer.GPT2()
    except ValueError as error:
        pytest.skip(str(error))
    assert (real.vocab_size, real.end) == (50257, 50256)
    assert real.encode("Hello, world").tolist() == [15496, 11, 995]
    assert real.decode(real.encode(TEXT)) == TEXT
