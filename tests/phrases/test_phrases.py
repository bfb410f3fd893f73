"""Both halves of every phrase give the same values and gradients, and a wrong half is seen."""

import functools
import importlib
import importlib.util
import inspect

import numpy as np
import pytest

from bench.harness import frameworks
from twingrad.phrases import book, sources, trial
from twingrad.phrases.phrase import FLOAT64_BOUND
from twingrad.phrases.trial import Result, Value

pytestmark = [
    pytest.mark.skipif(
        not all(map(frameworks.installed, frameworks.NAMES)), reason="it needs both frameworks"
    ),
    # PyTorch says so of itself, the first time that it differentiates forwards.
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
    # Anomaly mode warns before it raises, which is what the phrase about it is for.
    pytest.mark.filterwarnings("ignore:Error detected in:UserWarning"),
]
ENTRIES = {phrase.name: (family, phrase) for family, phrase in book.entries()}
# Of each family so many are in the quick set; compiling all of JAX's halves takes half a minute.
QUICK_OF_A_FAMILY = 1
QUICK = {
    phrase.name
    for family in book.FAMILIES
    for phrase in [one for one in family.phrases if not one.costly][:QUICK_OF_A_FAMILY]
}
each_phrase = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, id=f"{family.name}-{name}", marks=[pytest.mark.slow] * (name not in QUICK)
        )
        for name, (family, _) in ENTRIES.items()
    ],
)


def _torch(name, function=None):
    family, phrase = ENTRIES[name]
    return trial.run_torch(phrase, function or trial.code("torch", family, phrase))


def _jax(name, function=None):
    family, phrase = ENTRIES[name]
    if function is None and not phrase.costly and not phrase.untraceable:
        together = _jax_together(family.name, name in QUICK)
        if name in together:
            return together[name]
    return trial.run_jax(phrase, function or trial.code("jax", family, phrase))


@functools.cache
def _jax_together(name, quick):
    """The results of a family's phrases, quick or not, from one program; none if one fails.

    One program for many takes a third of the time.
    """
    (family,) = (family for family in book.FAMILIES if family.name == name)
    able = [one for one in family.phrases if not one.costly and not one.untraceable]
    chosen = [one for one in able if (one.name in QUICK) == quick]
    try:
        return trial.run_jax_together([(one, trial.code("jax", family, one)) for one in chosen])
    except Exception:
        return {}  # each is then run by itself, and says what is wrong with it


@each_phrase
def test_both_halves_agree_in_value_and_gradient(name):
    _, phrase = ENTRIES[name]
    for package in phrase.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    left, right = _torch(name), _jax(name)
    assert set(left.gradients) == set(right.gradients) == set(phrase.gradient)
    assert left.values
    for gradient in (*left.gradients.values(), *right.gradients.values()):
        assert np.any(gradient.numbers), "a gradient of zeros shows nothing"
    for one in trial.distances(left, right):
        assert one.relative <= phrase.bound, f"{one.what}: {one.relative:.2g}\n{left}\n{right}"


def test_the_arguments_have_the_names_of_the_inputs():
    for family, phrase in ENTRIES.values():
        for framework in frameworks.NAMES:
            signature = inspect.signature(trial.code(framework, family, phrase))
            assert list(signature.parameters) == list(phrase.inputs), phrase.name


# A slip in one half of a phrase: the framework, what is written, and what is written instead.
SLIPS = {
    "past_the_end": ("jax", 'mode="fill"', 'mode="clip"'),
    "add_at": ("torch", "index_add_(0, index, values)", "index_put_((index,), x[index] + values)"),
    "causal_mask": ("torch", ".tril()", ".triu()"),
    "own_derivative": ("torch", "(1 - gate)", "(1 + gate)"),
    "linear": ("jax", "weight.T", "weight.reshape(3, 2)"),
    "ignore_some_targets": ("jax", "losses.mean(where=counted)", "losses.mean()"),
    "momentum": ("torch", "nesterov=True", "nesterov=False"),
    "cast": ("torch", "x.to(torch.bfloat16)", "x.to(torch.float16)"),
    "split": ("jax", "[1]", "[3]"),
    "variance": ("jax", "ddof=1", "ddof=0"),
    "scatter_add": ("torch", "x.scatter_add(", "x.scatter("),
    "buckets": ("torch", "x, edges, out", "x, edges, right=True, out"),
    "independent_draws": ("jax", "other, (3,)", "key, (3,)"),
    "sample_tokens": ("torch", "logits.softmax(dim=-1)", "logits.sigmoid()"),
    "recurrence": ("jax", "return state, state", "return state, row"),
    "stop_gradient": ("jax", "jax.lax.stop_gradient(x)", "x"),
    "straight_through": ("torch", "(x.round() - x).detach()", "(x.round() - x)"),
    "convolution": ("jax", "transpose(2, 3, 1, 0)", "transpose(3, 2, 1, 0)"),
    "layer_norm": ("jax", "epsilon=1e-5, ", ""),
    "gelu": ("torch", 'approximate="tanh"', 'approximate="none"'),
    "batch_norm": ("jax", "momentum=0.9", "momentum=0.99"),
    "squares": ("jax", "squared_error", "l2_loss"),
    "weights_of_classes": ("torch", ", weight=weights", ""),
    "training_step": ("jax", ", weight_decay=0.01", ""),
    "clip_by_norm": ("torch", "1 + 1e-6 / norm", "1.0"),
    "accumulate_in_float32": ("jax", "preferred_element_type=jnp.float32", "precision=None"),
    "reuse_the_memory": ("torch", "0.1 * gradient", "0.2 * gradient"),
    "find_nan": ("torch", "x.sqrt() * 0", "x.sin() * 0"),
    "weights_of_the_other_framework": ("torch", "kernel.T", "kernel.reshape(2, 3)"),
    "pad_a_batch": ("torch", "batch_first=True", "batch_first=False"),
    "own_part_of_the_data": ("jax", "process, processes = 1, 2", "process, processes = 0, 2"),
}  # fmt: skip
# Slips that leave the value as it was: the gradient alone shows them.
OF_GRADIENTS = ("own_derivative", "straight_through", "stop_gradient")


def _slipped(name, framework, written, instead):
    """The function of a phrase with a slip in its source."""
    family, phrase = ENTRIES[name]
    module = importlib.import_module(f"twingrad.phrases.{framework}_code.{family.name}")
    source = sources.source(framework, family, phrase)
    assert written in source
    names = dict(vars(module))
    exec(compile(source.replace(written, instead), f"{name} with a slip", "exec"), names)
    return names[phrase.name]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SLIPS],
)
def test_a_slip_in_either_half_is_seen(name):
    framework, written, instead = SLIPS[name]
    _, phrase = ENTRIES[name]
    slipped = {framework: _slipped(name, framework, written, instead)}
    left, right = _torch(name, slipped.get("torch")), _jax(name, slipped.get("jax"))
    found = [one for one in trial.distances(left, right) if not one.relative <= phrase.bound]
    assert found
    if name in OF_GRADIENTS:
        assert all(one.what.startswith("the gradient") for one in found)


def test_slips_are_made_in_every_family_and_on_both_sides():
    assert {ENTRIES[name][0].name for name in SLIPS} == {one.name for one in book.FAMILIES}
    assert {framework for framework, _, _ in SLIPS.values()} == set(frameworks.NAMES)


def _value(numbers, dtype="float64"):
    return Value(dtype, np.asarray(numbers))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (_value([1.0, 2.0]), _value([1.0, 2.0 + 1e-11])),
        (_value([1.0]), _value([[1.0]])),
        (_value([1.0]), _value([1.0], "float32")),
        (_value([np.nan, 1.0]), _value([1.0, 1.0])),
        (_value([np.inf]), _value([-np.inf])),
        (_value([True, False], "bool"), _value([True, True], "bool")),
        (_value("float32", ""), _value("float64", "")),
        (_value([1, 2], "int64"), _value([1, 3], "int64")),
    ],
)
def test_what_differs_is_over_the_bound(left, right):
    assert trial.apart(left, right) > FLOAT64_BOUND
    assert trial.apart(left, left) == trial.apart(right, right) == 0


def test_another_number_of_values_is_seen():
    (one,) = trial.distances(Result([_value(1.0)]), Result([_value(1.0)] * 2))
    assert one.relative == np.inf
