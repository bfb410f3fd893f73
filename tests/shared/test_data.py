"""Batches: the same for the same seed, and wrong tokens refused before a framework sees them."""

import io
import pickle

import numpy as np
import pytest

from shared import data
from shared.config import GPTConfig

CONFIG = GPTConfig(vocab_size=11, context_length=6, emb_dim=4, n_heads=2, n_layers=1)


def _tokens(shape=(2, 7), dtype=np.int64):
    tokens = np.arange(np.prod(shape)).reshape(shape) % CONFIG.vocab_size
    return tokens.astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_any_integer_dtype_becomes_int32(dtype):
    checked = data.check_tokens(_tokens(dtype=dtype), CONFIG)
    assert checked.dtype == np.int32
    assert np.array_equal(checked, _tokens())


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (_tokens(dtype=np.float32), "dtype float32: expected integers"),
        (_tokens(dtype=bool), "dtype bool: expected integers"),
        (_tokens().astype(str), "expected integers"),
        (_tokens((14,)), r"shape \(14,\): expected \[B, T\+1\]"),
        (_tokens((1, 2, 7)), r"shape \(1, 2, 7\): expected \[B, T\+1\]"),
        (_tokens((0, 7)), r"shape \(0, 7\): expected"),
        (_tokens((2, 1)), r"shape \(2, 1\): expected"),
        (_tokens((2, 8)), "7 tokens long: expected at most the context length, 6"),
        (_tokens() - 1, "token -1: expected 0 to 10"),
        (_tokens() + 1, "token 11: expected 0 to 10"),
        (_tokens(dtype=np.uint64) + np.uint64(2**63), "expected 0 to 10"),
        (_tokens() + 2**32, "expected 0 to 10"),
    ],
)
def test_wrong_tokens_are_refused_with_what_was_got_and_expected(tokens, message):
    with pytest.raises(ValueError, match=f"^prompt .*{message}"):
        data.check_tokens(tokens, CONFIG, "prompt")


def test_the_last_token_and_full_context_are_in_range():
    tokens = np.full((1, CONFIG.context_length + 1), CONFIG.vocab_size - 1)
    assert np.array_equal(data.check_tokens(tokens, CONFIG), tokens)


def test_tokens_are_loaded_as_they_were_saved(tmp_path):
    np.save(tmp_path / "tokens.npy", _tokens())
    loaded = data.load_tokens(tmp_path / "tokens.npy", CONFIG)
    assert loaded.dtype == np.int32
    assert np.array_equal(loaded, _tokens())


def _bytes_of(save, *args, **named):
    buffer = io.BytesIO()
    save(buffer, *args, **named)
    return buffer.getvalue()


WHOLE = _bytes_of(np.save, _tokens())
SHAPE = b"(2, 7), }          "
DAMAGED = {
    "empty": b"",
    "text": b"1 2 3",
    "cut in the magic": WHOLE[:5],
    "cut in the header": WHOLE[:40],
    "cut in the data": WHOLE[:-1],
    "a pickle": pickle.dumps(_tokens()),
    "an object array": _bytes_of(np.save, _tokens().astype(object), allow_pickle=True),
    "an archive": _bytes_of(np.savez, _tokens()),
    "a damaged archive": b"PK\x03\x04" + bytes(40),
    "a header that is not closed": WHOLE.replace(SHAPE, b"(2, 7, }           "),
    "a header that asks for petabytes": WHOLE.replace(SHAPE, b"(2000000000000, 7)}"),
    "a header of less than there is": WHOLE.replace(SHAPE, b"(1, 7), }          "),
    "a header that counts backwards": WHOLE.replace(SHAPE, b"(-2, -7), }        "),
    "a header with keys of two kinds": WHOLE.replace(b"'shape'", b"0      "),
    "a header with a list for a key": WHOLE.replace(b"'shape'", b"[]     "),
    "a header of dtypes that are none": WHOLE.replace(b"'<i8'", b"{}   "),
    "a later version": WHOLE[:6] + b"\x03" + WHOLE[7:],
    "a header that asks for more than there is": WHOLE.replace(SHAPE, b"(3, 7), }          "),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_token_file_is_refused_by_its_path(tmp_path, name):
    path = tmp_path / "tokens.npy"
    path.write_bytes(DAMAGED[name])
    assert DAMAGED[name] != WHOLE
    with pytest.raises(ValueError, match=r"tokens\.npy is not a whole \.npy file"):
        data.load_tokens(path, CONFIG)


def test_an_absent_token_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        data.load_tokens(tmp_path / "absent.npy", CONFIG)
    with pytest.raises(ValueError, match="is not a whole"):
        data.load_tokens(tmp_path, CONFIG)


def test_a_batch_depends_on_its_seed_alone():
    one, same, other = (data.token_batch(CONFIG, 3, 6, seed) for seed in (1, 1, 2))
    assert one.shape == (3, 7)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_batch_draws_every_token_of_the_vocabulary():
    assert set(data.token_batch(CONFIG, 100, 6, 0).flat) == set(range(CONFIG.vocab_size))


def test_each_target_is_the_token_after_its_input():
    tokens = _tokens().astype(np.int32)
    inputs, targets = data.split_tokens(tokens)
    assert np.array_equal(inputs, tokens[:, :-1])
    assert np.array_equal(inputs[:, 1:], targets[:, :-1])
    assert np.array_equal(targets[:, -1], tokens[:, -1])


def test_labels_say_whether_the_features_sum_to_more_than_zero():
    x, y = data.labelled_batch(64, seed=0)
    assert (x.shape, y.shape) == ((64, 10), (64, 1))
    assert x.dtype == y.dtype == np.float32
    assert np.array_equal(y[:, 0] == 1, x.sum(axis=1) > 0)
    assert set(y.flat) == {0, 1}
    assert np.array_equal(x, data.labelled_batch(64, seed=0)[0])
    assert not np.array_equal(x, data.labelled_batch(64, seed=1)[0])
