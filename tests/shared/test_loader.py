"""The loader: each window once an epoch, the same batches however they are shared or resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared import loader
from shared.config import IGNORED
from shared.corpus import Concatenated

LENGTH = 5
TOKENS = np.arange(5 * 24 + 3, dtype=np.uint16)  # 24 windows and a rest


def _loader(**changes):
    settings = {"length": LENGTH, "batch_size": 8, "seed": 3} | changes
    return loader.Loader(settings.pop("tokens", TOKENS), **settings)


def _take(batches, n):
    return [next(batches) for _ in range(n)]


def _same(ours, theirs):
    return len(ours) == len(theirs) and all(
        np.array_equal(a, b)
        for one, two in zip(ours, theirs, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def _windows_of(batches):
    """The numbers of the windows that ``batches`` hold, in order."""
    return np.concatenate([inputs.reshape(-1, LENGTH)[:, 0] for inputs, _ in batches]) // LENGTH


def test_each_token_is_input_once_and_target_once():
    windows = loader.Windows(TOKENS, LENGTH)
    assert len(windows) == 24
    rows = np.stack([windows[i] for i in range(len(windows))])
    assert rows.dtype == np.int32
    assert np.array_equal(rows[:, :-1].ravel(), TOKENS[: 24 * LENGTH])
    assert np.array_equal(rows[:, 1:].ravel(), TOKENS[1 : 24 * LENGTH + 1])


@pytest.mark.parametrize(("extra", "count"), [(0, 1), (4, 1), (5, 2)])
def test_a_window_needs_one_token_more_than_its_length(extra, count):
    assert len(loader.Windows(TOKENS[: LENGTH + 1 + extra], LENGTH)) == count


def test_batches_have_the_shape_and_dtype_of_a_training_step():
    for inputs, targets in _take(_loader(micro_batches=2), 2):
        assert inputs.shape == targets.shape == (2, 4, LENGTH)
        assert inputs.dtype == targets.dtype == np.int32
        assert inputs.flags.c_contiguous
        assert targets.flags.c_contiguous
        assert np.array_equal(targets, inputs + 1)


def test_a_batch_may_be_one_window():
    ones = _take(_loader(batch_size=1), 8)
    assert [inputs.shape for inputs, _ in ones] == [(1, 1, LENGTH)] * 8
    assert np.array_equal(_windows_of(ones), _windows_of(_take(_loader(), 1)))


def test_micro_batches_divide_the_same_batch():
    whole, parts = _take(_loader(), 4), _take(_loader(micro_batches=4), 4)
    for (one, _), (two, _) in zip(whole, parts, strict=True):
        assert np.array_equal(one.reshape(-1, LENGTH), two.reshape(-1, LENGTH))


def test_each_epoch_has_every_window_in_new_order():
    epochs = _windows_of(_take(_loader(), 12)).reshape(4, 24)
    for order in epochs:
        assert sorted(order) == list(range(24))
    assert len({tuple(order) for order in [np.arange(24), *epochs]}) == 5


def test_the_order_depends_on_the_seed_alone():
    first = _take(_loader(), 7)
    assert _same(first, _take(_loader(), 7))
    for other in (0, 2, 4, 2**32 - 1):
        assert not _same(first, _take(_loader(seed=other), 7))


def test_the_epochs_of_neighbouring_seeds_are_not_each_others():
    orders = [tuple(_windows_of(_take(_loader(seed=s), 3 * 4))) for s in range(4)]
    epochs = [order[24 * i : 24 * i + 24] for order in orders for i in range(4)]
    assert len(set(epochs)) == len(epochs)


def test_unshuffled_batches_are_in_the_order_of_the_text():
    assert _windows_of(_take(_loader(shuffle=False), 6)).tolist() == [*range(24), *range(24)]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_batches_do_not_depend_on_the_number_of_processes(count, micro_batches):
    whole = _take(_loader(micro_batches=micro_batches), 7)
    shares = [
        _take(_loader(micro_batches=micro_batches, shard=(rank, count)), 7) for rank in range(count)
    ]
    for n, batch in enumerate(whole):
        together = [np.concatenate(parts, 1) for parts in zip(*(s[n] for s in shares), strict=True)]
        assert _same([batch], [together]), n
        assert shares[0][n][0].shape == (micro_batches, 8 // micro_batches // count, LENGTH)


def test_resume_continues_with_the_very_next_batch():
    straight = _take(_loader(), 20)
    for done in (0, 1, 7, 13):
        interrupted = _loader()
        _take(interrupted, done)
        resumed = _loader()
        resumed.restore(json.loads(json.dumps(interrupted.state())))
        assert resumed.state() == interrupted.state()
        assert _same(_take(resumed, 20 - done), straight[done:]), done


def test_a_loader_in_use_goes_back_to_a_state():
    batches = _loader()
    _take(batches, 3)
    state = batches.state()
    after = _take(batches, 6)
    batches.restore(state)
    assert _same(_take(batches, 6), after)


def test_what_is_prefetched_is_not_counted_as_handed_out():
    batches = _loader()
    assert batches.state()["batches"] == 0
    _take(batches, 5)
    assert batches.state() == {
        "batches": 5,
        "seed": 3,
        "length": LENGTH,
        "batch_size": 8,
        "tokens": len(TOKENS),
        "shuffle": True,
    }


def test_resume_is_exact_with_other_processes_and_micro_batches():
    straight = _take(_loader(), 6)
    state = _loader().state() | {"batches": 4}
    shares = [_loader(shard=(rank, 2), micro_batches=2) for rank in range(2)]
    for share in shares:
        share.restore(state)
    for inputs, _ in straight[4:]:
        rows = [row.tolist() for share in shares for row in next(share)[0].reshape(-1, LENGTH)]
        assert sorted(rows) == sorted(inputs.reshape(-1, LENGTH).tolist())


def test_resume_does_not_read_what_was_before(monkeypatch):
    read = []
    get = loader.Windows.__getitem__
    monkeypatch.setattr(
        loader.Windows, "__getitem__", lambda self, i: read.append(i) or get(self, i)
    )
    batches = _loader()
    batches.restore(batches.state() | {"batches": 10**9})
    next(batches)
    assert len(read) <= 8 * (loader._AHEAD + 2)
    assert batches.state()["batches"] == 10**9 + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 4), ("length", 6), ("batch_size", 4), ("tokens", 9), ("shuffle", False)],
)
def test_the_state_of_another_order_is_refused_by_its_field(name, value):
    batches = _loader()
    with pytest.raises(ValueError, match=f"state has {name} {value}, asked .*: resume with"):
        batches.restore(batches.state() | {name: value})


@pytest.mark.parametrize("wrong", [-1, 1.0, "3", None, True, 1 << 60])
def test_a_state_with_a_wrong_count_is_refused(wrong):
    batches = _loader()
    with pytest.raises(ValueError, match=r"state has batches .*: expected a whole number"):
        batches.restore(batches.state() | {"batches": wrong})


def test_a_state_that_lacks_a_field_is_refused():
    batches = _loader()
    with pytest.raises(ValueError, match="state has no 'seed'"):
        batches.restore({"batches": 3})


def test_the_epoch_counts_passes_over_the_text():
    batches = _loader()
    assert batches.epoch == 0.0
    next(batches)
    assert batches.epoch == 8 / 24
    _take(batches, 5)
    assert batches.epoch == 2.0


def test_a_short_text_is_repeated_within_a_batch():
    inputs, _ = next(_loader(tokens=TOKENS[: 3 * LENGTH + 1], batch_size=9))
    windows = (inputs[0, :, 0] // LENGTH).reshape(3, 3)
    assert all(sorted(epoch) == [0, 1, 2] for epoch in windows)


def test_a_text_in_several_shards_is_loaded_like_one():
    shards = Concatenated([TOKENS[:17], TOKENS[17:18], TOKENS[18:]])
    assert _same(_take(_loader(tokens=shards), 6), _take(_loader(), 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, "length is 0: expected 1 or more"),
        ({"batch_size": 0}, "batch_size 0 is not divisible"),
        ({"batch_size": 6, "micro_batches": 4}, "6 is not divisible .* choose a multiple of 4"),
        ({"shard": (0, 3)}, "8 is not divisible by 1 micro-batches times 3 processes"),
        ({"shard": (2, 2)}, r"shard is \(2, 2\): expected a rank"),
        ({"shard": (0, 0)}, r"shard is \(0, 0\): expected a rank"),
        ({"micro_batches": 0}, "micro_batches is 0: expected 1 or more"),
        ({"seed": -1}, "seed is -1: expected a whole number"),
        ({"seed": 1 << 32}, "seed is 4294967296: expected a whole number"),
        (
            {"tokens": TOKENS[:5]},
            "training part has 5 tokens, under one window of 6: .* context_length of 4 or less",
        ),
        ({"tokens": TOKENS[:0]}, "training part has 0 tokens, under one window of 6"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _loader(**changes)


def _validation(limit=None, batch_size=5, tokens=TOKENS):
    return loader.validation_batches(tokens, length=LENGTH, batch_size=batch_size, limit=limit)


def test_validation_goes_through_the_text_once_in_order():
    batches = list(_validation())
    assert len(batches) == 5
    counted = [targets[targets != IGNORED] for _, targets in batches]
    assert np.array_equal(np.concatenate(counted), TOKENS[1 : 24 * LENGTH + 1])
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (5, LENGTH)
        assert inputs.dtype == targets.dtype == np.int32


def test_the_last_validation_batch_is_padded_with_ignored_targets():
    *_, (inputs, targets) = _validation()
    assert np.array_equal(targets[:4], inputs[:4] + 1)
    assert (targets[4:] == IGNORED).all()
    assert (inputs[4:] == 0).all()


def test_limited_validation_is_spread_evenly_over_the_text():
    batches = list(_validation(limit=2, batch_size=4))
    assert len(batches) == 2
    assert _windows_of(batches).tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert all((targets != IGNORED).all() for _, targets in batches)


def test_a_limit_above_what_there_is_limits_nothing():
    assert _same(list(_validation(limit=99)), list(_validation()))


def test_impossible_validation_is_refused_before_the_first_batch():
    with pytest.raises(ValueError, match="validation part has 5 tokens, under one window of 6"):
        _validation(tokens=TOKENS[:5])
    with pytest.raises(ValueError, match="limit is 0: expected 1 or more batches"):
        _validation(limit=0)
    with pytest.raises(ValueError, match="batch_size is 0: expected 1 or more"):
        _validation(batch_size=0)


QUIET = """
import sys
import numpy as np
from shared.loader import Loader

settings = dict(length=4, batch_size=2, seed=1)
batches = Loader(np.arange(99, dtype=np.uint16), **settings)
first = [next(batches) for _ in range(3)]
loaded = {name.partition(".")[0] for name in sys.modules} & {"jax", "jaxlib", "flax", "torch"}
assert not loaded, loaded
"""


def _python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_loader_loads_neither_framework_and_prints_nothing():
    done = _python(QUIET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_jax_can_be_imported_after_the_loader():
    pytest.importorskip("jax")
    more = """
import jax
assert float(jax.jit(lambda x: x + 1)(1.0)) == 2.0
state = batches.state()
after = next(batches)
other = Loader(np.arange(99, dtype=np.uint16), **settings)
other.restore(state)
assert np.array_equal(after, next(other))
"""
    done = _python(QUIET + more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_batches_are_the_same_if_jax_was_there_first():
    pytest.importorskip("jax")
    report = "\nprint(np.array(first).tolist())"
    before, after = (
        _python(QUIET + report),
        _python("import jax\n" + QUIET.split("loaded")[0] + report),
    )
    assert before.stderr == after.stderr == ""
    assert before.stdout == after.stdout != ""
