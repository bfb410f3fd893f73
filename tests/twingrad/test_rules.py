"""Rules of optimizers: they are PyTorch's own, and what two of them differ in is named."""

from dataclasses import replace

import numpy as np
import pytest

from bench.harness import frameworks

if not frameworks.installed("torch"):
    pytest.skip("rules are read from PyTorch's optimizers", allow_module_level=True)

import torch

from twingrad.diagnosis.hypotheses import optimizer, rules

RANDOM = np.random.default_rng(0)
START = {"fc.weight": RANDOM.normal(size=(4, 3)), "fc.bias": RANDOM.normal(size=4)}
GRADIENTS = [
    {name: f * RANDOM.normal(size=value.shape) for name, value in START.items()}
    for f in (0.1, -0.5, 20.0, 0.3)
]
RATES = (0.01, 0.02, 0.03, 0.04)


def _params():
    return {name: torch.nn.Parameter(torch.tensor(value)) for name, value in START.items()}


MAKERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "Adam, AMSGrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "SGD with Nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-3, momentum=0.5),
    "RMSprop, centred": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, weight_decay=0.1),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.2),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_rule_that_is_read_from_an_optimizer_does_what_the_optimizer_does(name):
    params = _params()
    made = MAKERS[name](params.values())
    names = {id(p): name for name, p in params.items()}
    rule = rules.read(made, [0.01] * len(GRADIENTS), names)
    for gradients, expected in zip(GRADIENTS, rule.run(START, GRADIENTS), strict=True):
        for key, p in params.items():
            p.grad = torch.tensor(gradients[key])
        made.step()
        for key, p in params.items():
            np.testing.assert_allclose(p.detach().numpy(), expected[key], rtol=1e-12)


def test_groups_that_differ_in_decay_are_read_by_the_names_that_decay():
    params = _params()
    groups = [
        {"params": [params["fc.weight"]], "weight_decay": 0.1},
        {"params": [params["fc.bias"]], "weight_decay": 0.0},
    ]
    names = {id(p): name for name, p in params.items()}
    rule = rules.read(torch.optim.AdamW(groups, lr=0.01), RATES, names)
    assert rule.decayed == {"fc.weight"}
    assert rule.decay == 0.1


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
def test_groups_that_differ_in_more_are_not_taken_for_one_rule(field):
    groups = [
        {"params": [p], field: value}
        for p, value in zip(_params().values(), (0.1, 0.2), strict=True)
    ]
    assert rules.read(torch.optim.AdamW(groups, lr=0.01), RATES, {}) is None


def test_a_subclass_is_read_as_its_base_and_an_unknown_optimizer_is_not():
    class Scheduled(torch.optim.AdamW):
        pass

    assert rules.read(Scheduled(_params().values()), RATES, {}).kind == "adamw"
    assert rules.read(torch.optim.Adadelta(_params().values()), RATES, {}) is None


def _judged(torch_rule, jax_rule, known=None, noise=0.0):
    runs = optimizer.Runs(
        start=START,
        gradients=GRADIENTS,
        torch=torch_rule.run(START, GRADIENTS),
        jax=[
            {name: value * (1 + noise) for name, value in params.items()}
            for params in jax_rule.run(START, GRADIENTS)
        ],
    )
    found = optimizer.judge(runs, known or torch_rule)
    return "" if found is None else str(found.cause)


ADAM = rules.Rule(rates=RATES, decay=0.1, decays="everything", title="Adam's rule", coupled=True)
ADAMW = replace(ADAM, title="AdamW's rule", coupled=False)
RMSPROP = rules.Rule(kind="rmsprop", rates=RATES, beta2=0.99, epsilon=1e-3, title="RMSprop's rule")
ADAGRAD = rules.Rule(kind="adagrad", rates=RATES, epsilon=1e-10, title="Adagrad's rule")
LION = rules.Rule(kind="lion", rates=RATES, beta2=0.99, decay=0.1, decays="everything")
SGD = rules.Rule(kind="sgd", rates=RATES, momentum=0.9, title="SGD's rule")

DIFFERENT = {
    "with decoupled decay (AdamW)": (ADAM, replace(ADAM, coupled=False)),
    "decay in the gradient (L2)": (ADAMW, replace(ADAMW, coupled=True)),
    "with the largest second moment so far (AMSGrad)": (ADAM, replace(ADAM, most="plain")),
    "without the largest second moment so far (AMSGrad)": (replace(ADAM, most="plain"), ADAM),
    "second moment taken after its bias is corrected (AMSGrad)": (
        replace(ADAM, most="plain"), replace(ADAM, most="corrected")),
    "epsilon inside the root": (RMSPROP, replace(RMSPROP, in_root=True)),
    "RMSprop's rule, centred": (RMSPROP, replace(RMSPROP, centred=True)),
    "squares begin (accumulate) from 0.1": (ADAGRAD, replace(ADAGRAD, squares=0.1)),
    "from 0.1, and epsilon 1e-07 inside the root": (
        ADAGRAD, replace(ADAGRAD, squares=0.1, epsilon=1e-7, in_root=True)),
    "weight decay 0.0001 of everything": (LION, replace(LION, decay=1e-4)),
    "with Nesterov's step": (SGD, replace(SGD, nesterov=True)),
    "with momentum 0": (SGD, replace(SGD, momentum=0.0)),
    "one step behind (learning rates 0, 0.01, 0.02": (
        ADAMW, replace(ADAMW, rates=(0.0, 0.01, 0.02, 0.03))),
    "one step ahead (learning rates 0.02, 0.03, 0.04": (
        ADAMW, replace(ADAMW, rates=(0.02, 0.03, 0.04, 0.05))),
    "other learning rates (learning rates 0.005, 0.01, 0.011": (
        SGD, replace(SGD, rates=(0.005, 0.01, 0.011, 0.012))),
    "no decay of fc.weight": (ADAMW, replace(ADAMW, decayed=frozenset({"fc.bias"}))),
    "weight decay 0.1 of everything": (replace(ADAMW, decayed=frozenset({"fc.weight"})), ADAMW),
    "decay of fc.bias too and no decay of fc.weight": (
        replace(ADAMW, decayed=frozenset({"fc.weight"})),
        replace(ADAMW, decayed=frozenset({"fc.bias"}))),
}  # fmt: skip


@pytest.mark.parametrize("words", DIFFERENT)
def test_what_two_rules_differ_in_is_named(words):
    torch_rule, jax_rule = DIFFERENT[words]
    assert words in _judged(torch_rule, jax_rule)


@pytest.mark.parametrize("words", DIFFERENT)
def test_a_rule_that_is_nearly_followed_is_not_named(words):
    torch_rule, jax_rule = DIFFERENT[words]
    assert words not in _judged(torch_rule, jax_rule, noise=1e-5)


@pytest.mark.parametrize("clip", ["norm", "value", "tensor", "tensor and 1e-6"])
def test_clipping_that_the_optimizer_does_not_tell_of_is_found(clip):
    own = replace(SGD, clip="norm and 1e-6", max_norm=0.5)
    cause = _judged(own, replace(own, clip=clip), known=SGD)
    assert cause.startswith("PyTorch follows SGD's rule clipped at 0.5 by the norm + 1e-6 of all")
    assert "1e-6" in cause


def test_rates_that_are_rounded_to_float32_are_no_other_rates():
    rounded = replace(SGD, rates=tuple(float(np.float32(rate)) for rate in RATES))
    assert "learning rates" not in _judged(SGD, rounded)
