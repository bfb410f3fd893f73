"""What ``compare`` judges of a pair: which tensors, by which rule, under which names."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

import jax.numpy as jnp
import optax
import torch
from flax import nnx
from torch import nn

from twingrad import To, comparison, numerics
from twingrad.diagnosis.finding import Finding, Note
from twingrad.exact import ExactRun
from twingrad.live import LivePair
from twingrad.numerics import NOISE, UNIT_ROUNDOFF, Size
from twingrad.pair import Pair

X = np.random.default_rng(0).normal(size=(6, 4))


class Net(nn.Module):
    """Two outputs, running statistics, and two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        h = self.norm(self.first(x))
        return self.last(torch.tanh(h)), h


class Port(nnx.Module):
    """The same, with room for a bug."""

    def __init__(self, factor=1.0, momentum=0.9):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=momentum, epsilon=1e-5, rngs=rngs)
        self.last = nnx.Linear(5, 3, rngs=rngs)
        self.factor = factor

    def __call__(self, x):
        h = self.norm(self.first(x))
        return self.factor * self.last(jnp.tanh(h)), h


def _squares(model, x):
    out, h = model(x)
    return (out**2).mean() + (h**3).mean(), (out, h)


def _pair(factor=1.0, momentum=0.9, **changes):
    return Pair(
        torch=Net, jax=lambda: Port(factor, momentum), torch_loss=_squares, jax_loss=_squares,
        batch=[X], train=True, name="two", **changes,
    )  # fmt: skip


ALIKE = {
    "torch_optimizer": lambda p: torch.optim.SGD(p, lr=0.1),
    "jax_optimizer": optax.sgd(0.1),
}
NAMES = [
    *[("activation", name) for name in ("first", "norm", "last", "output", "output[1]")],
    ("loss", "loss"),
    *[("gradient", f"{name}.{part}") for name in ("last", "norm", "first")
      for part in ("bias", "weight")],
]  # fmt: skip


def _kinds(gate):
    return [(tensor.kind, tensor.name) for tensor in gate.tensors]


def test_every_module_the_loss_and_the_gradients_are_judged_and_two_batches():
    said: list[str] = []
    outcomes, notes = comparison.compare(_pair(**ALIKE), say=said.append)
    (note,) = notes  # Flax divides by n where PyTorch divides by n - 1
    assert note.where == "norm.running_var"
    assert [(o.program, o.preset, o.dtype, o.device) for o in outcomes] == [
        ("two", None, dtype, "cpu") for dtype in ("float64", "float32")
    ]
    exact, rounded = outcomes
    assert [gate.name for gate in exact.gates] == ["float64", "second batch"]
    assert [gate.name for gate in rounded.gates] == ["float32"]
    assert _kinds(exact.gates[0]) == _kinds(rounded.gates[0]) == NAMES
    assert _kinds(exact.gates[1]) == NAMES[3:]
    assert {tensor.limit_u for tensor in rounded.gates[0].tensors} <= {4.0, 16.0} | {
        4 * error for t in rounded.gates[0].tensors for error in (t.torch_error_u, t.jax_error_u)
    }
    for outcome in outcomes:
        assert outcome.ok
        assert 0 < outcome.seconds < 600
        assert (outcome.first_forward, outcome.first_backward) == (None, None)
    assert said == [
        "two, float64: building both",
        "two: running both twice",
        "two, float64: a second batch",
        "two, float64: updates by the same gradients",
        "two, float32: forward and backward on both sides",
    ]


def test_a_wrong_output_stops_before_float32_and_is_named():
    (outcome,), notes = comparison.compare(_pair(factor=1.01))
    assert [gate.name for gate in outcome.gates] == ["float64"]
    assert _kinds(outcome.gates[0]) == NAMES
    wrong = [tensor.name for tensor in outcome.gates[0].tensors if not tensor.ok]
    assert wrong[:2] == ["output", "loss"]
    assert (outcome.first_forward, outcome.first_backward) == ("output", "last.bias")
    assert [note for note in notes if note.where == "output"] == []


def test_a_wrong_state_and_wrong_updates_are_gates_of_their_own():
    optimizers = ALIKE | {"jax_optimizer": optax.sgd(0.2)}
    (outcome,), notes = comparison.compare(_pair(momentum=0.5, **optimizers), ["float64"])
    assert [gate.name for gate in outcome.gates] == [
        "float64", "second batch", "state", "optimizer"
    ]  # fmt: skip
    assert [gate.ok for gate in outcome.gates] == [True, True, False, False]
    assert notes == []
    state, update = (gate.tensors for gate in outcome.gates[2:])
    assert {tensor.kind for tensor in state} == {"state"}
    assert {tensor.kind for tensor in update} == {"update"}
    assert {tensor.name for tensor in state} <= {"norm.running_mean", "norm.running_var"}
    assert all(tensor.error_ratio > 1e6 for tensor in (*state, *update))
    assert outcome.first_forward is None


def test_state_is_compared_after_the_batch_and_the_second_one(monkeypatch):
    asked = []
    monkeypatch.setattr(comparison.state, "compare", lambda *given: asked.append(given) or ())
    comparison.compare(_pair(), ["float64"])
    ((_, seen, ((first, of_jax), (second, seconds_of_jax))),) = asked
    assert seen.loss != 0
    for batch, other in ((first, of_jax), (second, seconds_of_jax)):
        np.testing.assert_array_equal(np.asarray(batch[0]), np.asarray(other[0]))
    np.testing.assert_array_equal(np.asarray(first[0]), X)
    assert np.asarray(second[0]).shape == X.shape
    assert not np.any(np.asarray(second[0]) == X)


def test_a_module_of_which_jax_gave_nothing_is_infinitely_far():
    with comparison.arithmetic("float64"):
        run = ExactRun.once(LivePair.build(_pair(), "float64"))
    outputs = {key: x for key, x in run.plain.outputs.items() if "first" not in str(key)}
    assert len(outputs) == len(run.plain.outputs) - 1
    less = replace(run, plain=replace(run.plain, outputs=outputs))
    torch_side, jax_side = comparison.values(less)
    assert jax_side["activation", "first"].shape == (0,)
    (first, *others) = comparison.verdicts(torch_side, jax_side, torch_side, "float64")
    assert (first.name, first.mutual_error_u) == ("first", numerics.BEYOND)
    assert all(other.ok for other in others)


def test_one_dtype_is_enough_and_others_are_refused():
    outcomes, _ = comparison.compare(_pair(), ["float64"])
    assert [outcome.dtype for outcome in outcomes] == ["float64"]
    for dtypes in (["float32"], ["float32", "float64"], ["float64", "bfloat16"], []):
        words = f"dtypes {tuple(dtypes)}: a pair is compared in float64, then in float32"
        with pytest.raises(ValueError, match=re.escape(words)):
            comparison.compare(_pair(), dtypes)


# Which tensor of one model is held against which of the other


def _array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _fitted(torch_side, jax_side, known=True, last=False):
    found = comparison.fitting(torch_side, jax_side, jax_side if known else None, last, "float64")
    return [
        (number, [i for i, x in enumerate(jax_side) if x is other] or [None], value.shape)
        for number, value, other in found
    ]


def test_tensors_in_another_order_are_matched_by_their_numbers_and_listed_by_pytorchs():
    a, b, c = _array(2, 3), _array(2, 3, seed=1), _array(4, seed=2)
    assert _fitted([a, b, c], [c.copy(), b.copy(), a.copy()]) == [
        (0, [2], (2, 3)), (1, [1], (2, 3)), (2, [0], (4,))
    ]  # fmt: skip


def test_what_a_model_returns_to_its_user_is_not_looked_for_in_another_order():
    a, b = _array(2, 3), _array(2, 3, seed=1)
    given = comparison.fitting([a, b], [b.copy(), a.copy()], None, False, "float64")
    assert [number for number, *_ in given] == [0, 1]
    np.testing.assert_array_equal(given[0][1], a)
    np.testing.assert_array_equal(given[0][2], b)


def test_a_tensor_of_one_model_alone_is_left_out_and_two_that_do_not_fit_are_held_together():
    a, cache = _array(2, 3), _array(7)
    assert _fitted([a, cache], [a.copy()]) == [(0, [0], (2, 3))]
    assert _fitted([a], [cache, a.copy()]) == [(0, [1], (2, 3))]
    assert _fitted([cache, a], [a.copy(), _array(8)]) == [(0, [1], (7,)), (1, [0], (2, 3))]
    assert _fitted([a, cache], [_array(8), _array(9)]) == [(0, [0], (2, 3)), (1, [1], (7,))]
    assert _fitted([cache, _array(5)], [_array(8)]) == [(0, [0], (7,))]


def test_a_call_whose_result_jax_lacks_fits_nothing():
    a, b = _array(2, 3), _array(4)
    ((number, value, other),) = comparison.fitting([a, b], [], [], False, "float64")
    assert number == 0
    np.testing.assert_array_equal(value, a)
    assert other.shape == (0,)
    assert np.issubdtype(other.dtype, np.floating)
    assert comparison.fitting([], [], [], False, "float64") == []


def test_channels_last_are_laid_out_as_jax_has_them():
    image = _array(2, 3, 4, 5)
    ((_, value, other),) = comparison.fitting(
        [image], [image.transpose(0, 2, 3, 1)], None, True, "float64"
    )
    np.testing.assert_array_equal(value, other)


# Verdicts


def _values(**tensors):
    return {tuple(name.split("_", 1)): np.asarray(value) for name, value in tensors.items()}


def test_a_gradient_is_relative_to_all_gradients_where_it_is_noise_and_an_output_to_itself():
    torch_side = _values(
        activation_output=[NOISE / 4], gradient_w=[1.0, 0.0], gradient_b=[NOISE / 4, 0.0]
    )
    jax_side = {name: value * (1 + 2.0**-30) for name, value in torch_side.items()}
    verdicts = comparison.whole(torch_side, jax_side, torch_side, "float64")
    assert [(v.kind, v.name, v.ok) for v in verdicts] == [
        ("activation", "output", False), ("gradient", "w", False), ("gradient", "b", True)
    ]  # fmt: skip
    u = UNIT_ROUNDOFF["float64"]
    assert [v.mutual_error_u for v in verdicts] == [2.0**-30 / u, 2.0**-30 / u, 2.0**-72 / u]


def test_inner_modules_are_no_part_of_the_whole():
    names = ["activation_output", "activation_output[2]", "activation_head", "activation_in[0]"]
    values = _values(**{key: [1.0] for key in [*names, "loss_loss", "gradient_w"]})
    verdicts = comparison.whole(values, values, values, "float64")
    assert [v.name for v in verdicts] == ["output", "output[2]", "loss", "w"]


def test_float32_is_judged_by_float64_and_float64_by_the_other_framework():
    u = UNIT_ROUNDOFF["float32"]
    exact = _values(loss_loss=np.ones(20))
    torch_side = {key: value + 3 * u for key, value in exact.items()}
    jax_side = {key: value - 12.5 * u for key, value in exact.items()}
    (verdict,) = comparison.whole(torch_side, jax_side, exact, "float32")
    errors = (verdict.torch_error_u, verdict.jax_error_u, verdict.mutual_error_u)
    assert errors == pytest.approx((3, 12.5, 15.5))
    assert (verdict.limit_u, verdict.ok) == (pytest.approx(12), False)
    three = [{key: x[:3] for key, x in one.items()} for one in (torch_side, jax_side, exact)]
    (few,) = comparison.whole(*three, "float32")
    assert (few.limit_u, few.ok) == (16, True)
    (same,) = comparison.whole(torch_side, torch_side, exact, "float64")
    assert (same.torch_error_u, same.ok) == (0, True)


def test_without_an_oracle_rounded_tensors_are_held_against_one_another():
    u, limit = UNIT_ROUNDOFF["float32"], numerics.OWN_RELATIVE["float32"]
    torch_side = _values(loss_loss=np.ones(20), gradient_w=np.ones(20), gradient_b=[1e-6])
    jax_side = {key: value * (1 + 3 * u) for key, value in torch_side.items()}
    verdicts = comparison.whole(torch_side, jax_side, None, "float32")
    assert [(v.kind, v.name, v.limit_u) for v in verdicts] == [
        ("loss", "loss", limit / u), ("gradient", "w", limit / u), ("gradient", "b", limit / u)
    ]  # fmt: skip
    # A gradient of 1e-6 beside one of 4.5 is noise in float32, and judged by the size of all.
    assert [v.mutual_error_u for v in verdicts] == pytest.approx([3, 3, 3e-6 / 20**0.5])
    far = {key: value * (1 + 1.01 * limit) for key, value in torch_side.items()}
    assert [v.ok for v in comparison.whole(torch_side, far, None, "float32")] == [
        False, False, True
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_mask_that_all_share_is_equal_and_the_rest_is_judged(dtype):
    masked = [1.0, -np.inf, np.nan, 2.0]
    exact = _values(activation_output=masked, gradient_w=[np.nan, 3.0], gradient_b=[NOISE, 0.0])
    (output, w, b) = comparison.whole(exact, exact, exact, dtype)
    assert output.ok
    assert w.ok
    assert b.ok
    other = {key: np.where(np.isnan(value), 1.0, value) for key, value in exact.items()}
    assert [v.ok for v in comparison.whole(exact, other, exact, dtype)] == [False, False, True]
    moved = {key: value * 1.5 for key, value in exact.items()}
    assert [v.ok for v in comparison.whole(exact, moved, exact, dtype)][:2] == [False, False]


def _verdict(name, kind, ok):
    u = UNIT_ROUNDOFF["float64"]
    apart = numerics.Gaps(*[Size(u if ok else 1e6 * u, 0.0)] * 3)
    return numerics.judge_float64(name, kind, apart, Size(1.0, 1.0))


def test_inner_modules_that_differ_are_notes_only_where_the_whole_agrees():
    inner = [_verdict("a", "activation", False), _verdict("b", "activation", True)]
    right = [_verdict("output", "activation", True), _verdict("w", "gradient", True)]
    gate, notes = comparison.decided("float64", [*inner, *right])
    assert (gate.name, gate.ok) == ("float64", True)
    assert gate.tensors == [inner[1], *right]
    assert notes == [
        Note(
            "a",
            "the work is divided otherwise (a differs in float64), and the whole agrees: output, "
            "loss and all gradients",
        )
    ]
    wrong = [*inner, _verdict("w", "gradient", False)]
    gate, notes = comparison.decided("float32", wrong)
    assert (gate.name, gate.ok, gate.tensors, notes) == ("float32", False, wrong, [])
    gate, notes = comparison.decided("float32", right)
    assert (gate.tensors, notes) == (right, [])


def test_a_finding_is_a_verdict_as_large_as_its_error():
    def failed(size):
        return comparison.failed(
            Finding(stage="update", where="w", reason=None, evidence="", size=size)
        )

    limit = 1e-11 * 2.0**53
    verdict = failed(3.0)
    assert (verdict.name, verdict.kind, verdict.ok) == ("w", "update", False)
    assert {verdict.limit_u, verdict.peak_limit_u} == {limit}
    errors = {verdict.torch_error_u, verdict.jax_error_u, verdict.mutual_error_u}
    assert errors | {verdict.peak_error_u} == {3 * limit}
    assert verdict.error_ratio == 3
    assert failed(0.0).error_ratio == 1
    assert failed(np.inf).torch_error_u == numerics.BEYOND


def test_places_that_are_nan_in_both_are_noted_for_outputs_and_gradients():
    nan = np.nan
    torch_side = _values(
        activation_output=[[1.0, nan], [nan, nan]], activation_inner=[nan], gradient_w=[nan, nan],
        gradient_b=[nan, 1.0], loss_loss=1.0, gradient_v=[nan],
    )  # fmt: skip
    jax_side = torch_side | _values(
        activation_output=[[nan, 2.0], [nan, nan]], gradient_b=[1.0, nan], gradient_v=[[nan]]
    )
    assert list(comparison.nowhere_a_number(torch_side, jax_side)) == [
        Note(
            "output",
            "NaN in both models at 2 of 4 places, first at [1, 0]: nothing is compared there",
        ),
        Note(
            "gradient of w",
            "NaN in both models at 2 of 2 places, first at [0]: nothing is compared there",
        ),
    ]
    assert next(iter(comparison.nowhere_a_number(jax_side, jax_side))).where == "output"


def test_one_more_tensor_is_singular_and_the_worst_is_named():
    verdicts = [_verdict("b", "gradient", False), _verdict("w", "gradient", True)]
    (note,) = comparison.rounding_alone(verdicts)
    assert note == Note(
        "b",
        f"rounded in float32 to {verdicts[0].error_ratio:.3g} times what the other framework's "
        "error allows; every module, from the same inputs, is within float32's rounding; "
        "1 more tensor is over the limit by less",
    )


class TwoBiases(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.second = nn.Parameter(torch.rand(5))

    def forward(self, x):
        return torch.tanh(self.first(x) + self.second)


class OneBias(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(4, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return jnp.tanh(self.first(x))


def _summed(rate=0.1, optimizers=True) -> Pair:
    steps = {
        "torch_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        "jax_optimizer": optax.sgd(rate),
    }
    return Pair(
        torch=TwoBiases,
        jax=OneBias,
        batch=[X],
        names={("first.bias", "second"): To("first.bias").sum()},
        **(steps if optimizers else {}),
    )


def test_updates_of_tensors_of_which_jax_has_the_sum_are_noted_and_all_others_compared():
    outcomes, notes = comparison.compare(_summed(), dtypes=("float64",))
    assert all(outcome.ok for outcome in outcomes)
    assert [note for note in notes if note.where.startswith("updates")] == [
        Note(
            "updates of first.bias",
            "not compared: JAX has the sum of it and second as one parameter, and in PyTorch each "
            "takes a step of its own",
        )
    ]
    (outcome,), _ = comparison.compare(_summed(rate=0.2), dtypes=("float64",))
    failed = [v.name for gate in outcome.gates for v in gate.tensors if not v.ok]
    assert failed == ["first.weight, step 1"]


def test_without_optimizers_nothing_is_said_of_updates():
    _, notes = comparison.compare(_summed(optimizers=False), dtypes=("float64",))
    assert not any(note.where.startswith("updates") for note in notes)
