"""``SimpleNet`` 10-5-1: one step of training after another, the same on both sides."""

import functools

import numpy as np
import pytest

from bench.harness import programs
from shared import by_hand, data
from twingrad import numerics

PROGRAM = programs.simple_net()
WIDE = {name: value.astype(np.float64) for name, value in PROGRAM.params.items()}


def _by_hand(x, y):
    loss, probability, gradients = by_hand.simple_net(WIDE, *(v.astype(np.float64) for v in (x, y)))
    return {"loss": loss, "probability": probability, **gradients}


def _exported(framework, model, gradients):
    """Gradients under canonical names; a state of NNX brings its layout along."""
    return framework.params.export_tensors(
        *((model,) if framework.name == "torch" else ()), gradients
    )


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_batch_of_any_size_has_the_gradients_by_hand(
    build, framework, device, assert_same64, size
):
    batch = data.labelled_batch(size, seed=size)
    model, runtime = build(framework, PROGRAM, "float64", device)
    seen = framework.trace.observe(model, framework.simple_net.loss_fn, batch, runtime)
    ours = {"loss": seen.loss, "probability": seen.output, **seen.gradients}
    assert seen.output.shape == (size, 1)
    assert len(seen.gradients) == 4
    assert_same64(ours, _by_hand(*batch))


def test_calling_the_model_gives_the_probabilities(build, framework, assert_same64):
    x, y = data.labelled_batch(3, seed=0)
    model, runtime = build(framework, PROGRAM, "float64", "cpu")
    probability = framework.params.to_numpy(model(*runtime.batch(x)))
    assert_same64({"probability": probability}, {"probability": _by_hand(x, y)["probability"]})


def test_accumulated_gradients_are_those_of_the_sum_of_the_losses(build, framework, assert_same64):
    batches = [data.labelled_batch(size, seed=size) for size in (4, 1, 4)]
    model, runtime = build(framework, PROGRAM, "float64", "cpu")
    found = framework.simple_net.accumulated_gradients(model, [runtime.batch(*b) for b in batches])
    each = [_by_hand(*batch) for batch in batches]
    assert_same64(
        _exported(framework, model, found), {name: sum(b[name] for b in each) for name in WIDE}
    )


def test_an_uncleared_gradient_doubles_in_torch_alone(build, framework, assert_same64):
    x, y = data.labelled_batch(4, seed=0)
    model, runtime = build(framework, PROGRAM, "float64", "cpu")
    found = framework.simple_net.uncleared_gradients(model, *runtime.batch(x, y))
    times = {"torch": 2, "jax": 1}[framework.name]
    exact = _by_hand(x, y)
    assert_same64(_exported(framework, model, found), {name: times * exact[name] for name in WIDE})


@pytest.fixture(scope="module")
def trained(build):
    """Losses of 100 SGD steps in float64 and the parameters after them, by side."""

    @functools.cache
    def train(framework, device):
        model, runtime = build(framework, PROGRAM, "float64", device)
        optimizer = framework.optim.Optimizer(model, PROGRAM.optimizers["sgd"])
        batches = (runtime.batch(*batch) for batch in PROGRAM.batches)
        losses = framework.train.train(model, optimizer, framework.simple_net.loss_fn, batches)
        after = framework.trace.observe(
            model, framework.simple_net.loss_fn, PROGRAM.batches[0], runtime
        )
        return framework.params.to_numpy(losses), after

    return train


def test_a_hundred_steps_are_those_by_hand(trained, framework, device, assert_same64):
    losses, after = trained(framework, device)
    params, exact = dict(WIDE), []
    rate = PROGRAM.optimizers["sgd"].learning_rate
    for batch in PROGRAM.batches:
        loss, _, gradients = by_hand.simple_net(params, *(v.astype(np.float64) for v in batch))
        params = {name: value - rate * gradients[name] for name, value in params.items()}
        exact.append(loss)
    assert len(losses) == 100
    for step in range(100):
        name = f"loss[{step}]"
        assert_same64(
            {name: losses[step : step + 1]},
            {name: np.stack(exact)[step : step + 1]},
            relative=numerics.FLOAT64_TRAJECTORY_RELATIVE,
        )
    _, probability, _ = by_hand.simple_net(
        params, *(v.astype(np.float64) for v in PROGRAM.batches[0])
    )
    assert_same64(
        {"probability": after.output},
        {"probability": probability},
        relative=numerics.FLOAT64_TRAJECTORY_RELATIVE,
    )


def test_a_hundred_steps_are_equal_on_both_sides(trained, frameworks, device, assert_same64):
    (torch, torch_after), (jax, jax_after) = (
        trained(framework, device) for framework in frameworks
    )
    steps = [f"loss[{step}]" for step in range(100)]
    ours, theirs = ({n: np.asarray(v) for n, v in zip(steps, x, strict=True)} for x in (torch, jax))
    relative = numerics.FLOAT64_TRAJECTORY_RELATIVE
    assert_same64(ours, theirs, relative)
    assert_same64(torch_after.gradients, jax_after.gradients, relative)
