"""The work of Python for a training step beside the computation does not grow with the layers.

Counted, not timed: calls of Python functions that one more step makes, and kernels of an update.
"""

import sys
from dataclasses import replace
from functools import partial

import pytest

from bench.harness import programs
from shared import data, params
from shared.config import AdamWConfig, GPTConfig, TrainConfig
from shared.train_state import Step, step_keys

MODEL = GPTConfig(vocab_size=31, context_length=8, emb_dim=8, n_heads=1, n_layers=1, drop_rate=0.0)
each_rate = pytest.mark.parametrize("rate", [0.0, 0.1])


def _trainer(framework, layers: int, rate: float, dtype: str = "float32"):
    model = replace(MODEL, n_layers=layers, drop_rate=rate)
    runtime = framework.runtime.configure(dtype, "cpu")
    values = params.init_gpt2(model, 0, programs.SPREAD)
    made = framework.params.build(lambda: framework.make_gpt2(model), values, runtime.master)
    config = TrainConfig(optimizer=AdamWConfig(), batch_size=2, dtype=dtype)
    return framework.train.Trainer(made, config, runtime)


def _batch():
    return tuple(part[None] for part in data.split_tokens(data.token_batch(MODEL, 2, 4, 0)))


def _calls(function) -> int:
    """How many functions of Python ``function`` calls."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow("jax-*")
@pytest.mark.usefixtures("unchecked")
@each_rate
def test_a_step_of_jax_calls_no_more_functions_for_more_layers(framework, rate):
    if framework.name == "torch":
        pytest.skip("eager layers are functions; see the tests of its update")
    counts = []
    for layers in (1, 2):
        trainer = _trainer(framework, layers, rate)
        batch = _batch()
        for _ in range(2):
            trainer.step(*batch)
        counts.append(min(_calls(partial(trainer.step, *batch)) for _ in range(3)))
    assert counts[0] == counts[1]


@each_rate
def test_keys_of_dropout_cost_no_more_for_more_layers(rate):
    sites = [0, 0] if not rate else [4, 37]
    counts = [_calls(partial(step_keys, 0, 3, 1, count)) for count in sites]
    assert counts[0] == counts[1]


@pytest.mark.usefixtures("unchecked")
def test_pytorch_looks_for_no_layer_at_a_step(framework):
    """Its modules are looked through once, when the trainer is made."""
    if framework.name == "jax":
        pytest.skip("JAX looks through modules when it compiles")
    from torch import nn

    for rate in (0.0, 0.1):
        trainer = _trainer(framework, 2, rate, "bfloat16")
        trainer.step(*_batch())
        with pytest.MonkeyPatch.context() as patch:
            for name in ("named_modules", "named_parameters", "get_submodule"):
                patch.setattr(nn.Module, name, _no_walk)
            trainer.step(*_batch())


def _no_walk(module, *arguments, **named):
    raise AssertionError("the modules were looked through")


@pytest.mark.slow("jax")
def test_at_rate_0_no_layer_has_a_key(framework):
    for rate, count in ((0.0, 0), (0.1, 7)):
        assert _trainer(framework, 2, rate).sites == count


def test_norm_clipping_and_casts_are_a_few_kernels_for_all_tensors_of_a_gpu(framework):
    if framework.name == "jax":
        pytest.skip("XLA makes one program of the whole step")
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from torch_impl import optim

    class Count(TorchDispatchMode):
        kernels = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Count.kernels += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for layers in (1, 12):
        # Tensors of a device that computes nothing stand in for those of a GPU.
        gradients = [torch.empty(8, 8, device="meta") for _ in range(12 * layers)]
        Count.kernels = 0
        with Count():
            optim._clip(gradients, optim._joint_norm(gradients), 1.0)
        counts.append(Count.kernels)
    assert counts[0] == counts[1] < 12


@pytest.mark.parametrize("shapes", [[(3, 4), (4,)], [(7,)], [(50, 60), (60,), (2, 3)]])
def test_the_norm_of_a_gpus_kernels_is_the_same(framework, shapes, monkeypatch):
    if framework.name == "jax":
        pytest.skip("JAX has one form of it")
    import torch

    from torch_impl import optim

    torch.manual_seed(0)
    gradients = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    copies = [gradient.clone() for gradient in gradients]
    expected = optim._joint_norm(gradients)
    optim._clip(gradients, expected, 0.5)
    monkeypatch.setattr(optim, "_at_once", lambda gradients: True)
    found = optim._joint_norm(copies)
    optim._clip(copies, found, 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    for one, other in zip(copies, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


class _Pending:
    """A number that is still being computed; notes each wait for it."""

    def __init__(self):
        self.waits = 0

    def __float__(self):
        self.waits += 1
        return 2.5


def test_a_steps_loss_is_waited_for_once_and_only_where_it_is_read():
    loss, norm = _Pending(), _Pending()
    step = Step(loss=loss, grad_norm=norm)
    assert (loss.waits, norm.waits) == (0, 0)
    assert (step.loss, step.loss, float(step)) == (2.5, 2.5, 2.5)
    assert (loss.waits, norm.waits) == (1, 0)


@pytest.mark.slow("jax")
def test_a_step_itself_waits_for_nothing(framework):
    trainer = _trainer(framework, 1, 0.0)
    step = trainer.step(*_batch())
    assert not isinstance(step._loss, float)
    assert step.loss > 0
