"""One changed operation of PyTorch's explains JAX's numbers; one that nearly does is no cause."""

import math

import pytest

from bench.harness import frameworks

if not frameworks.installed("torch"):
    pytest.skip("operations of PyTorch's are changed", allow_module_level=True)

import torch
from torch.nn import functional as F

from twingrad.diagnosis.hypotheses import choice
from twingrad.diagnosis.hypotheses.changes import numbers, search
from twingrad.torch_replay import _Watch

torch.manual_seed(0)


def _random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class _FunctionTrial:
    """A function of tensors, run again with its operations changed."""

    def __init__(self, function):
        self.function = function
        watch = _Watch(None, lambda: "")
        with watch, torch.no_grad():
            self.value = function().numpy()
        self.operations = watch.operations

    def predict(self, change):
        try:
            with _Watch(change, lambda: ""), torch.no_grad():
                return self.function().numpy()
        except (RuntimeError, IndexError, TypeError):
            return None


def _cause(torch_side, jax_side, noise=0.0):
    trial = _FunctionTrial(torch_side)
    with torch.no_grad():
        jax = jax_side().numpy() * (1 + noise)
    cause = search.cause(trial, trial.value, jax, 1e-9)
    return None if cause is None else str(cause)


X, Y = _random(4, 6), _random(4, 6)
IMAGE, KERNEL = _random(2, 3, 8, 8), _random(4, 3, 5, 5)
UP = _random(3, 4, 2, 2)
WEIGHT, BIAS = _random(6), _random(6)
TARGET = torch.tensor([[1, 2, -100, 0, 3, 4], [0, 5, 1, 1, -100, -100]])
LOGITS = _random(2, 6, 6).transpose(1, 2)
SOFT = torch.softmax(_random(4, 6), -1)
WHOLE = torch.arange(24.0, dtype=torch.float64).reshape(4, 6)
KEPT = torch.arange(6)[None] < torch.tensor([6, 3, 5, 2])[:, None]
SCORES = _random(2, 4, 5, 5)
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)
AWAY = torch.arange(5)[None] - torch.arange(5)[:, None]
SLOPES = torch.tensor([2.0 ** (-2 * (h + 1)) for h in range(4)], dtype=torch.float64)
ALIBI = SLOPES[:, None, None] * AWAY
HIDDEN = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
W, U, B, C = _random(18, 6), _random(18, 6), _random(18), _random(18)
STATE = _random(4, 6)
QUERY, KEYS = _random(2, 4, 5, 6), _random(2, 2, 5, 6)
MULTIHEAD, SEQUENCE = torch.nn.MultiheadAttention(6, 2, batch_first=True).double(), _random(2, 5, 6)
LEFT_OUT = torch.tensor([[False] * 3 + [True] * 2, [True, False, True, False, False]])
# Masks that are added, the second one the other sense of the first.
ADDED = [
    torch.zeros(2, 5, dtype=torch.float64).masked_fill(hidden, -math.inf)
    for hidden in (LEFT_OUT, ~LEFT_OUT)
]


def _multihead(added):
    return MULTIHEAD(*[SEQUENCE] * 3, key_padding_mask=added)[0]


def _attention(scores, hidden):
    return torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ SCORES


def _windowed(width):
    return _attention(SCORES, CAUSAL | (width <= -AWAY))


def _gru(reset_before):
    i, g = X @ W.T + B, STATE @ U.T + C
    r, z = torch.sigmoid(i[:, :6] + g[:, :6]), torch.sigmoid(i[:, 6:12] + g[:, 6:12])
    inner = (r * STATE) @ U[12:].T + C[12:] if reset_before else r * g[:, 12:]
    return (1 - z) * torch.tanh(i[:, 12:] + inner) + z * STATE


def _repeated(tiled):
    heads = KEYS.repeat(1, 2, 1, 1) if tiled else KEYS.repeat_interleave(2, 1)
    return QUERY @ heads.transpose(-1, -2)


def _expanded():
    heads = KEYS[:, :, None].expand(2, 2, 2, 5, 6).reshape(2, 4, 5, 6)
    return QUERY @ heads.transpose(-1, -2)


def _smoothed(share):
    logs = X.log_softmax(-1)
    target = torch.tensor([0, 3, 2, 5])
    one = F.one_hot(target, 6).double()
    return -((0.9 * one + share * (1 - one)) * logs).sum(-1).mean()


TARGETS = torch.tensor([0, 3, 2, 5])
MIDDLE = X - X.mean(-1, keepdim=True)

CASES = {
    "GELU by tanh": (lambda: F.gelu(X), lambda: F.gelu(X, approximate="tanh")),
    "SiLU": (lambda: torch.relu(X) * Y, lambda: F.silu(X) * Y),
    "epsilon 1e-06": (
        lambda: F.layer_norm(X, (6,), WEIGHT, BIAS),
        lambda: F.layer_norm(X, (6,), WEIGHT, BIAS, 1e-6),
    ),
    "1 + gain": (
        lambda: F.layer_norm(X, (6,), WEIGHT, BIAS),
        lambda: F.layer_norm(X, (6,), WEIGHT + 1, BIAS),
    ),
    "not centred": (lambda: F.layer_norm(X, (6,)), lambda: F.rms_norm(X, (6,), eps=1e-5)),
    "one over n": (
        lambda: MIDDLE / (X.std(-1, keepdim=True) + 1e-6),
        lambda: MIDDLE / (X.std(-1, keepdim=True, correction=0) + 1e-6),
    ),
    "channels that are 2 apart": (
        lambda: F.group_norm(_channels(), 2),
        lambda: F.group_norm(_channels()[:, [0, 2, 4, 1, 3, 5]], 2)[:, [0, 3, 1, 4, 2, 5]],
    ),
    "(1, 2) here": (
        lambda: F.conv2d(IMAGE, KERNEL, None, 2, 2),
        lambda: F.conv2d(F.pad(IMAGE, (1, 2, 1, 2)), KERNEL, None, 2),
    ),
    "the kernel flipped": (
        lambda: F.conv_transpose2d(IMAGE, UP, None, 2),
        lambda: F.conv_transpose2d(IMAGE, UP.flip(2, 3), None, 2),
    ),
    "padded zeros not counted": (
        lambda: F.avg_pool2d(IMAGE, 3, 1, 1),
        lambda: F.avg_pool2d(IMAGE, 3, 1, 1, count_include_pad=False),
    ),
    "its corners aligned": (
        lambda: F.interpolate(IMAGE, size=(5, 5), mode="bilinear"),
        lambda: F.interpolate(IMAGE, size=(5, 5), mode="bilinear", align_corners=True),
    ),
    "antialias=True": (
        lambda: F.interpolate(IMAGE, size=(5, 5), mode="bilinear"),
        lambda: F.interpolate(IMAGE, size=(5, 5), mode="bilinear", antialias=True),
    ),
    "depth_to_space": (
        lambda: F.pixel_shuffle(_blocks(), 2),
        lambda: _blocks().reshape(1, 2, 2, 3, 2, 2).permute(0, 3, 4, 1, 5, 2).reshape(1, 3, 4, 4),
    ),
    "divided by the batch": (lambda: F.mse_loss(X, Y), lambda: ((X - Y) ** 2).sum() / 4),
    "the mean over all elements": (
        lambda: F.kl_div(SOFT.log(), SOFT.roll(1, 0), reduction="batchmean"),
        lambda: F.kl_div(SOFT.log(), SOFT.roll(1, 0), reduction="none").mean(),
    ),
    "the other direction": (
        lambda: F.kl_div(SOFT.log(), SOFT.roll(1, 0), reduction="batchmean"),
        lambda: F.kl_div(SOFT.roll(1, 0).log(), SOFT, reduction="batchmean"),
    ),
    "the Huber loss": (
        lambda: F.smooth_l1_loss(X, Y, beta=0.3),
        lambda: F.huber_loss(X, Y, delta=0.3),
    ),
    "divided by all 12 targets": (
        lambda: F.cross_entropy(LOGITS, TARGET),
        lambda: F.cross_entropy(LOGITS, TARGET, reduction="sum") / 12,
    ),
    "counted as class 0": (
        lambda: F.cross_entropy(LOGITS, TARGET),
        lambda: F.cross_entropy(LOGITS, TARGET.clamp(min=0)),
    ),
    "every sequence's own mean": (
        lambda: F.cross_entropy(LOGITS, TARGET),
        lambda: (
            (F.cross_entropy(LOGITS[:1], TARGET[:1]) + F.cross_entropy(LOGITS[1:], TARGET[1:])) / 2
        ),
    ),
    "over the 5 others": (
        lambda: F.cross_entropy(X, TARGETS, label_smoothing=0.1),
        lambda: _smoothed(0.1 / 5),
    ),
    "(N, N)": (
        lambda: ((X[:, 0] - Y[:, 0]) ** 2).mean(),
        lambda: ((X[:, :1] - Y[:, 0]) ** 2).mean(),
    ),
    "its sign is turned": (
        lambda: _attention(SCORES + ALIBI, CAUSAL),
        lambda: _attention(SCORES - ALIBI, CAUSAL),
    ),
    "slopes 1, 0.25": (
        lambda: _attention(SCORES + ALIBI, CAUSAL),
        lambda: _attention(SCORES + 4 * ALIBI, CAUSAL),
    ),
    "one more position on the left": (lambda: _windowed(3), lambda: _windowed(2)),
    "lets one future position through": (
        lambda: _attention(SCORES, CAUSAL),
        lambda: _attention(SCORES, CAUSAL.triu(2)),
    ),
    "scores divided by sqrt(D)": (
        lambda: torch.softmax(X @ Y.T, -1),
        lambda: torch.softmax(X @ Y.T / 6**0.5, -1),
    ),
    "no mask": (
        lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY, is_causal=True),
        lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY),
    ),
    "tiled": (lambda: _repeated(tiled=False), lambda: _repeated(tiled=True)),
    "the heads tiled": (_expanded, lambda: _repeated(tiled=True)),
    "channels last": (lambda: IMAGE.flatten(1), lambda: IMAGE.permute(0, 2, 3, 1).flatten(1)),
    "halves swapped": (
        lambda: torch.cat([X.cos(), X.sin()], -1),
        lambda: torch.cat([X.sin(), X.cos()], -1),
    ),
    "interleaved": (lambda: X.reshape(4, 2, 3), lambda: X.reshape(4, 3, 2).transpose(1, 2)),
    "before the product": (
        lambda: torch.gru_cell(X, STATE, W, U, B, C),
        lambda: _gru(reset_before=True),
    ),
    "padded) places are counted": (
        lambda: SCORES[:, 0, 0].masked_fill(HIDDEN, 0.0).sum(1) / (~HIDDEN).sum(1),
        lambda: SCORES[:, 0, 0].masked_fill(HIDDEN, 0.0).mean(1),
    ),
    "(ortho)": (lambda: torch.fft.rfft(X).abs(), lambda: torch.fft.rfft(X, norm="ortho").abs()),
    "hides a position from itself": (
        lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY, is_causal=True),
        lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY, attn_mask=_before_itself()),
    ),
    "padding (1, 1) of zeros": (
        lambda: F.max_pool2d(-IMAGE.abs(), 3, 2, padding=1),
        lambda: F.max_pool2d(F.pad(-IMAGE.abs(), (1, 1, 1, 1)), 3, 2),
    ),
    "minus infinity, JAX's with padding (1, 1) of zeros": (
        lambda: torch.max_pool2d(-IMAGE.abs(), 3, 2, 1),
        lambda: F.max_pool2d(F.pad(-IMAGE.abs(), (1, 1, 1, 1)), 3, 2),
    ),
    "what it hides is shown": (
        lambda: _multihead(ADDED[0]),
        lambda: _multihead(ADDED[1]),
    ),
    "its channels too": (
        lambda: F.instance_norm(IMAGE),
        lambda: F.layer_norm(IMAGE, IMAGE.shape[1:]),
    ),
    "over 3 positions": (
        lambda: F.cross_entropy(_logits().flatten(0, 1), _classes()),
        lambda: F.nll_loss(_logits().log_softmax(1).flatten(0, 1), _classes()),
    ),
    "not divided": (lambda: Y.abs() / Y.abs().sum(-1, keepdim=True) + X, lambda: Y.abs() + X),
    "its own sum": (
        lambda: WHOLE / WHOLE.sum(-1, keepdim=True).long() + X,
        lambda: WHOLE + X,
    ),
    "divided by their sum": (
        lambda: _shares().topk(2)[0],
        lambda: _shares().topk(2)[0] / _shares().topk(2)[0].sum(-1, keepdim=True),
    ),
    "the last position of each": (
        lambda: X[torch.arange(4), torch.tensor([2, 0, 1, 3])],
        lambda: X[:, -1],
    ),
    "each slice along axis 1": (
        lambda: torch._weight_norm(X, Y[:, :1].contiguous(), 0),
        lambda: Y[:, :1] * X / torch.linalg.vector_norm(X, dim=0, keepdim=True),
    ),
    "masked (padded) places are counted": (
        lambda: X.masked_fill(KEPT.logical_not(), 0.0).sum(1) / KEPT.sum(1),
        lambda: X.masked_fill(KEPT.logical_not(), 0.0).mean(1),
    ),
    "no such factor": (lambda: X * 8**0.5 + Y, lambda: X + Y),
}


def _before_itself():
    hidden = torch.ones(QUERY.shape[-2], QUERY.shape[-2], dtype=torch.bool).triu()
    return torch.zeros(hidden.shape, dtype=X.dtype).masked_fill(hidden, -1e30)


def _logits():
    return SCORES[:1, :, :3].contiguous()[0]  # (4, 3, 5)


def _classes():
    return torch.arange(12) % 5


def _shares():
    return torch.softmax(X, -1)


def _channels():
    return IMAGE.reshape(2, 6, 4, 8)


def _blocks():
    return IMAGE.flatten()[:48].reshape(1, 12, 2, 2)


@pytest.mark.parametrize("words", CASES)
def test_the_operation_that_differs_is_named(words):
    assert words in (_cause(*CASES[words]) or "")


@pytest.mark.parametrize("words", CASES)
def test_numbers_that_are_nearly_met_have_no_cause(words):
    assert _cause(*CASES[words], noise=1e-7) is None


def test_the_mask_of_a_multihead_attention_is_named_by_its_other_sense():
    mha = torch.nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    x = _random(2, 5, 6)
    hidden = torch.tensor([[True, False, False, True, True], [False, True, True, True, False]])

    def run(mask):
        return mha(x, x, x, key_padding_mask=mask, need_weights=False)[0]

    cause = _cause(lambda: run(hidden), lambda: run(~hidden))
    assert "mask's other sense" in cause


def test_a_backward_direction_that_is_left_reversed_is_named():
    lstm = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True, dtype=torch.float64)
    x = _random(2, 4, 6)

    def left():
        ahead, back = lstm(x)[0].chunk(2, -1)
        return torch.cat([ahead, back.flip(1)], -1)

    assert "left in the order in which it is computed" in _cause(lambda: lstm(x)[0], left)


def test_a_lost_second_bias_of_an_lstm_is_named():
    lstm = torch.nn.LSTM(6, 5, batch_first=True, dtype=torch.float64)
    other = torch.nn.LSTM(6, 5, batch_first=True, dtype=torch.float64)
    other.load_state_dict({**lstm.state_dict(), "bias_hh_l0": torch.zeros(20, dtype=torch.float64)})
    x = _random(2, 4, 6)
    cause = _cause(lambda: lstm(x)[0], lambda: other(x)[0])
    assert "no second bias (bias_hh)" in cause


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both_ways", [False, True])
def test_another_order_of_gates_is_named_in_every_kind_of_lstm(layers, both_ways):
    given = {"batch_first": True, "num_layers": layers, "bidirectional": both_ways}
    lstm, other = (torch.nn.LSTM(6, 5, dtype=torch.float64, **given) for _ in range(2))

    def reordered(weight):
        i, f, g, o = weight.chunk(4)
        return torch.cat([i, g, o, f])  # what is read as i, f, g, o was written as i, o, f, g

    other.load_state_dict({name: reordered(w) for name, w in lstm.state_dict().items()})
    x = _random(2, 4, 6)
    assert "the order" in _cause(lambda: lstm(x)[0], lambda: other(x)[0])


def test_the_row_of_padding_that_has_no_gradient_is_named():
    table = torch.nn.Parameter(_random(5, 3))
    ids = torch.tensor([0, 1, 0, 4])
    weights = _random(4, 3)

    def gradient(padding):
        with torch.enable_grad():
            loss = (F.embedding(ids, table, padding_idx=padding) * weights).sum()
            return torch.autograd.grad(loss, table)[0]

    assert "row 0 of the table without a gradient" in _cause(
        lambda: gradient(0), lambda: gradient(None)
    )


def test_a_factor_of_a_single_number_that_several_changes_give_has_no_cause():
    """2 of 4 × 2 numbers: a sum over axis 1 and then a mean, a mean of twice the numbers."""
    x = _random(4, 2)
    assert _cause(lambda: (x * 0.5).mean(), lambda: (x * 0.5).mean() * 2) is None


@pytest.mark.parametrize("factor", [1.01, -1.0, 0.0])
def test_a_term_that_makes_a_factor_of_many_numbers_is_no_cause(factor):
    """What differs is then the factor, and not how it came about."""
    assert _cause(lambda: X * factor - (X * factor - X), lambda: X * factor) is None


def test_the_rank_of_arithmetic_is_that_of_its_family():
    assert search.FAMILIES[choice.NUMBERS] is numbers.FAMILY
