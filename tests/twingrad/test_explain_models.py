"""Causes in models of language and images: rotary tables, gates, padding, read-outs, targets."""

import numpy as np
import pytest

from twingrad.calls import Call, Key
from twingrad.diagnosis.hypotheses import explain
from twingrad.diagnosis.hypotheses.context import Context
from twingrad.diagnosis.hypotheses.separate import Separate

RANDOM = np.random.default_rng(0)


def _cause(torch, jax, what="in", **given):
    cause = explain.explain(Context(stage="forward", what=what, torch=torch, jax=jax, **given))
    return None if cause is None else str(cause)


def _table(function, base, layout, first=0, scale=1.0):
    angles = np.outer(np.arange(7) + first, scale * base ** (-np.arange(4) / 4))
    values = function(angles)
    laid_out = {
        "halves": np.concatenate([values, values], -1),
        "pairs": np.repeat(values, 2, -1),
        "once": values,
    }
    return laid_out[layout]


@pytest.mark.parametrize("function", [np.cos, np.sin])
@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({}, {"base": 10000.0}, ("base 500000", "base 10000")),
        ({}, {"layout": "pairs"}, ("in halves", "each number twice")),
        ({}, {"layout": "once"}, ("in halves", "each number once")),
        ({}, {"scale": 0.25}, ("base 500000, repeated", "positions times 0.25")),
    ],
)
def test_a_rotary_table_is_named_by_its_base_its_scale_and_how_it_lies(
    function, ours, theirs, words
):
    plain = {"base": 500000.0, "layout": "halves"}
    torch, jax = (_table(function, **{**plain, **given}) for given in (ours, theirs))
    cause = _cause(torch[None], jax if jax.shape != torch.shape else jax[None])
    torch_cause, jax_cause = cause.split(", JAX's ")
    assert words[0] in torch_cause
    assert words[1] in jax_cause


def test_positions_of_a_rotary_table_from_one_are_named():
    torch = _table(np.cos, 10000.0, "halves")
    jax = _table(np.cos, 10000.0, "halves", first=1)
    assert "positions from 1" in _cause(torch, jax)


def test_numbers_that_are_no_table_of_angles_are_not_named_as_one():
    torch, jax = RANDOM.uniform(-1, 1, (2, 7, 8))
    assert "rotary" not in (_cause(torch, jax) or "")


def test_a_gate_that_is_exchanged_with_its_partner_is_named():
    gate, up = RANDOM.normal(size=(2, 3, 5, 8))

    def silu(x):
        return x / (1 + np.exp(-x))

    cause = _cause(silu(gate) * up, silu(up) * gate, sources={"gate_proj": gate, "up_proj": up})
    assert (
        cause
        == "PyTorch's is SiLU of gate_proj times up_proj, JAX's SiLU of up_proj times gate_proj"
    )


def _attention(**choices):
    q, k, v = RANDOM.normal(size=(3, 3, 7, 24))
    k, v = k[..., :8], v[..., :8]
    keys = np.arange(7) < np.array([7, 5, 6])[:, None]
    plain = {"heads": 6, "rotary": "halves", "base": 500000.0, "keys": keys}
    torch = Separate(**plain).compute(q, k, v)
    jax = Separate(**{**plain, **choices}).compute(q, k, v)
    sources = {"q_proj": q, "k_proj": k, "v_proj": v}
    return _cause(torch, jax, sources=sources, batch=(keys.astype(np.int64),))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"keys": None}, "padding seen"),
        ({"tiled": True}, "KV heads tiled"),
        ({"rotary": "pairs"}, "rotary pairs"),
        ({"base": 10000.0}, "rotary base 10000"),
        ({"scale": 1.0}, "scores times 1"),
        ({"merge": "time"}, "merged before"),
    ],
)
def test_attention_over_padded_keys_is_named_by_what_differs(choices, words):
    assert words in _attention(**choices)


@pytest.mark.parametrize(
    ("order", "axis", "words"),
    [("qvk", -1, "taken for queries, values, keys"), ("qkv", -2, "softmax over queries")],
)
def test_attention_of_equal_heads_is_named_by_what_differs(order, axis, words):
    q, k, v = RANDOM.normal(size=(3, 3, 7, 24))
    torch = Separate(heads=3, causal=False).compute(q, k, v)
    jax = Separate(heads=3, causal=False, order=order, axis=axis).compute(q, k, v)
    assert words in _cause(torch, jax, sources={"query": q, "key": k, "value": v})


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda x: x.mean(1), "the mean over positions of norm"),
        (lambda x: x[:, -1], "the last position of norm"),
        (lambda x: x.max(1), "the largest over positions of norm"),
    ],
)
def test_what_is_read_out_of_a_sequence_is_named(read, words):
    x = RANDOM.normal(size=(4, 6, 5))
    cause = _cause(x[:, 0], read(x), sources={"norm": x})
    assert cause == f"PyTorch's is the first position of norm, JAX's {words}"


def test_a_mean_that_leaves_padding_out_is_named():
    x = RANDOM.normal(size=(4, 6, 5))
    seen = (np.arange(6) < np.array([6, 3, 5, 2])[:, None]).astype(np.int64)
    mean = (x * seen[..., None]).sum(1) / seen.sum(1, keepdims=True)
    assert "that are no padding" in _cause(mean, x.mean(1), sources={"norm": x}, batch=(seen,))


SHIFT = 2.0


def _losses(jax_of, normaliser=None):
    """A loss over the next position's targets, where padded ones are ignored, and another.

    ``normaliser`` is the log-sum-exp of every position's logits, which is else as it comes.
    """
    logits = RANDOM.normal(size=(3, 6, 9))
    if normaliser is not None:
        logits += normaliser - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = RANDOM.integers(0, 9, (3, 6))
    targets[1, 4:] = targets[2, 3:] = -100
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counted = targets[:, 1:] >= 0
    each = -np.take_along_axis(logs[:, :-1], np.maximum(targets[:, 1:], 0)[..., None], -1)[..., 0]
    call = Call(
        key=Key(""), kind="Model", inputs=[], integers=[], outputs=[np.asarray(0.0), logits],
        input_gradients=[], output_gradients=[np.asarray(0.0), logits],
    )  # fmt: skip
    torch = np.asarray((each * counted).sum() / counted.sum())
    jax = np.asarray(jax_of(each, counted, logs, targets))
    return _cause(torch, jax, what="loss", call=call, batch=(targets, targets))


def test_padded_targets_that_are_counted_are_named_where_the_model_shifts_its_labels():
    cause = _losses(lambda each, counted, *_: (each * counted).mean())
    assert "the sum divided by all positions" in cause
    assert "the next" in cause


def test_targets_that_are_not_shifted_are_named():
    def unshifted(each, counted, logs, targets):
        picked = -np.take_along_axis(logs, np.maximum(targets, 0)[..., None], -1)[..., 0]
        return (picked * (targets >= 0)).sum() / (targets >= 0).sum()

    torch, jax = _losses(unshifted).split(", JAX's ")
    assert "each position's target the next" in torch
    assert "the next" not in jax


@pytest.mark.parametrize("all_count", [True, False])
def test_ignored_targets_that_are_a_one_hot_of_zeros_are_named(all_count):
    def counted_too(each, counted, logs, targets):
        # Without a target nothing is subtracted from the log-sum-exp.
        losses = np.where(counted, each, 0.0) + np.where(counted, 0.0, SHIFT)
        return losses.mean() if all_count else losses.sum() / counted.sum()

    assert "ignored" in _losses(counted_too, SHIFT)
    assert "no token" in _losses(counted_too, SHIFT)
