"""The references written out by hand: right where autograd is, and where the sigmoid saturates."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest

from shared import by_hand, data, params
from shared.config import AdamWConfig, SGDConfig
from shared.schedule import learning_rate
from twingrad import numerics

LOGITS = (-1000.0, -88.0, -2.5, 0.0, 1e-9, 2.5, 88.0, 1000.0)


def _exactly(function, *values):
    """``function`` of ``values`` in 500 decimal digits, where nothing overflows or saturates."""
    with decimal.localcontext(prec=500):
        return np.asarray(float(function(*(Decimal(value) for value in values))))


def _sigmoid(z):
    return 1 / (1 + (-z).exp())


def _bce(z, y):
    return -(y * _sigmoid(z).ln() + (1 - y) * (1 - _sigmoid(z)).ln())


# The sigmoid and its loss


def test_the_sigmoid_is_right_however_large_its_input(assert_same64):
    ours = {str(z): by_hand.sigmoid(np.asarray(z)) for z in LOGITS}
    assert_same64(ours, {str(z): _exactly(_sigmoid, z) for z in LOGITS})


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_loss_is_right_however_large_its_logit(assert_same64, y):
    for z in LOGITS:
        ours = {str(z): by_hand.bce_with_logits(np.asarray(z), np.asarray(y))}
        assert_same64(ours, {str(z): _exactly(_bce, z, y)})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saturated_neuron_has_finite_results_of_its_own_dtype(dtype):
    for z in LOGITS:
        for y in (0, 1):
            point = {"w": np.asarray(z, dtype), "b": np.asarray(0, dtype)}
            loss, a, gradients = by_hand.neuron(point, np.asarray(1, dtype), np.asarray(y, dtype))
            for value in (loss, a, *gradients.values()):
                assert np.isfinite(value), (z, y)
                assert value.dtype == dtype, (z, y)
            assert 0 <= loss <= abs(z) + 1, (z, y)
            assert gradients["b"] == a - y, (z, y)


def test_the_textbook_point_has_its_printed_gradients():
    point = {"w": np.asarray(2.2), "b": np.asarray(0.0)}
    loss, a, gradients = by_hand.neuron(point, np.asarray(1.1), np.asarray(1.0))
    assert [f"{float(gradients[name]):.4f}" for name in "wb"] == ["-0.0898", "-0.0817"]
    assert math.isclose(a, 1 / (1 + math.exp(-2.42)))
    assert math.isclose(loss, -math.log(a))


# Gradients


def _differences(program, start, *batch):
    start = {name: value.astype(np.float64) for name, value in start.items()}
    batch = [array.astype(np.float64) for array in batch]
    _, _, gradients = program(start, *batch)
    numeric = by_hand.central_difference(lambda moved: float(program(moved, *batch)[0]), start)
    return gradients, numeric


def test_the_neurons_gradient_is_its_central_difference(assert_same64):
    start = params.init_uniform(params.NEURON_SHAPES)
    for x, y in ((1.1, 1.0), (-0.3, 0.0), (2.0, 0.25)):
        pair = _differences(by_hand.neuron, start, np.asarray(x), np.asarray(y))
        assert_same64(*pair, relative=numerics.CENTRAL_DIFFERENCE_RELATIVE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_simple_nets_gradients_are_their_central_differences(assert_same64, seed):
    start = params.init_uniform(params.SIMPLE_NET_SHAPES, seed)
    pair = _differences(by_hand.simple_net, start, *data.labelled_batch(8, seed))
    assert_same64(*pair, relative=numerics.CENTRAL_DIFFERENCE_RELATIVE)


def test_central_differences_find_a_wrong_gradient(assert_same64):
    start = params.init_uniform(params.SIMPLE_NET_SHAPES)
    gradients, numeric = _differences(by_hand.simple_net, start, *data.labelled_batch(8, 0))
    gradients["fc1.weight"][2, 3] *= 1.001
    with pytest.raises(pytest.fail.Exception, match=r"1 of 4 tensors differ, first fc1\.weight"):
        assert_same64(gradients, numeric, relative=numerics.CENTRAL_DIFFERENCE_RELATIVE)


def test_central_differences_of_a_cubic_are_its_derivative(assert_same64):
    x = {"x": np.array([[-2.0, 0.5], [1.0, 3.0]])}
    numeric = by_hand.central_difference(lambda at: float((at["x"] ** 3).sum()), x)
    assert_same64(numeric, {"x": 3 * x["x"] ** 2}, relative=numerics.CENTRAL_DIFFERENCE_RELATIVE)


# Optimizers

CONFIG = AdamWConfig(warmup_steps=2, total_steps=9, max_grad_norm=0.7)
START = {"matrix": (5, 3), "gain": (4,), "scalar": ()}


def _start_and_gradients():
    random = np.random.default_rng(0)
    start = {name: np.asarray(random.standard_normal(shape)) for name, shape in START.items()}
    gradients = [
        {name: np.asarray(random.normal(0, size, shape)) for name, shape in START.items()}
        for size in (1.0, 0.01, 2.0, 1e-6, 0.3, 5.0, 0.1)
    ]
    norms = [math.hypot(*(numerics.size(g).l2 for g in step.values())) for step in gradients]
    assert min(norms) < CONFIG.max_grad_norm < max(norms)
    return start, gradients, norms


def _by_hand(config):
    """Every parameter after each step, by ``step name``."""
    start, gradients, norms = _start_and_gradients()
    found = {}
    for name, value in start.items():
        steps = by_hand.optimizer_steps(value, [g[name] for g in gradients], norms, config)
        found |= {f"{step} {name}": p for step, p in enumerate(steps)}
    return found


def test_a_gradient_under_the_clipping_norm_is_left_alone():
    unclipped = AdamWConfig(warmup_steps=2, total_steps=9, max_grad_norm=1e9)
    ours, theirs = _by_hand(CONFIG), _by_hand(unclipped)
    assert not np.array_equal(ours["1 matrix"], theirs["1 matrix"])
    start, gradients, _ = _start_and_gradients()
    small = [gradients[1]["gain"]]
    for config in (CONFIG, unclipped):
        (moved,) = by_hand.optimizer_steps(start["gain"], small, [0.69], config)
        (same,) = by_hand.optimizer_steps(start["gain"], small, [1e-9], config)
        assert np.array_equal(moved, same)


def test_only_matrices_decay():
    zeros = {name: np.zeros(shape) for name, shape in START.items()}
    for name, value in zeros.items():
        (moved,) = by_hand.optimizer_steps(np.ones_like(value), [value], [0.5], CONFIG)
        shrunk = 1 - learning_rate(0, CONFIG) * CONFIG.weight_decay
        assert np.all(moved == (shrunk if name == "matrix" else 1)), name


def test_sgd_by_hand_is_torch_sgd(assert_same64):
    torch = pytest.importorskip("torch", reason="the reference is torch.optim")
    start, gradients, _ = _start_and_gradients()
    tensors = {name: torch.tensor(value) for name, value in start.items()}
    inner = torch.optim.SGD(tensors.values(), lr=0.05)
    assert_same64(_by_hand(SGDConfig(learning_rate=0.05)), _torch_steps(inner, tensors, gradients))


def test_adamw_by_hand_is_torch_adamw(assert_same64):
    torch = pytest.importorskip("torch", reason="the reference is torch.optim")
    start, gradients, norms = _start_and_gradients()
    tensors = {name: torch.tensor(value) for name, value in start.items()}
    groups = [
        {"params": [tensors["matrix"]], "weight_decay": CONFIG.weight_decay},
        {"params": [tensors["gain"], tensors["scalar"]], "weight_decay": 0.0},
    ]
    betas = (CONFIG.beta1, CONFIG.beta2)
    inner = torch.optim.AdamW(groups, betas=betas, eps=CONFIG.epsilon)
    clipped = [
        {name: g * min(1, CONFIG.max_grad_norm / norm) for name, g in step.items()}
        for step, norm in zip(gradients, norms, strict=True)
    ]
    rates = [float(learning_rate(step, CONFIG)) for step in range(len(norms))]
    assert_same64(_by_hand(CONFIG), _torch_steps(inner, tensors, clipped, rates))


def _torch_steps(optimizer, tensors, gradients, rates=None):
    import torch

    found = {}
    for step, injected in enumerate(gradients):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(injected[name])
        for group in optimizer.param_groups:
            group["lr"] = rates[step] if rates else group["lr"]
        optimizer.step()
        found |= {f"{step} {name}": tensor.numpy().copy() for name, tensor in tensors.items()}
    return found


@pytest.mark.slow
def test_adamw_by_hand_is_optax_adamw(assert_same64):
    optax = pytest.importorskip("optax", reason="the reference is optax")
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    start, gradients, _ = _start_and_gradients()
    decays = {"matrix": True, "gain": False, "scalar": False}
    inner = optax.chain(
        optax.clip_by_global_norm(CONFIG.max_grad_norm),
        optax.adamw(
            lambda step: learning_rate(step, CONFIG, jax.numpy),
            b1=CONFIG.beta1,
            b2=CONFIG.beta2,
            eps=CONFIG.epsilon,
            weight_decay=CONFIG.weight_decay,
            mask=decays,
        ),
    )
    params, state, found = start, inner.init(start), {}
    for step, injected in enumerate(gradients):
        updates, state = inner.update(injected, state, params)
        params = optax.apply_updates(params, updates)
        found |= {f"{step} {name}": np.asarray(value) for name, value in params.items()}
    assert_same64(found, _by_hand(CONFIG))


@pytest.mark.slow("jax-cpu")
def test_the_sides_optimizers_step_as_by_hand(framework, device, assert_same64):
    """Clipping, decay groups, schedule and all, on a net whose parameters decay and do not."""
    from bench.harness import programs

    program = programs.simple_net(steps=1)
    runtime = framework.runtime.configure("float64", device)
    start = {name: value.astype(np.float64) for name, value in program.params.items()}
    random = np.random.default_rng(0)
    gradients = [
        {name: random.standard_normal(value.shape) * size for name, value in start.items()}
        for size in (1.0, 1e-3, -2.0)
    ]
    norms = [math.hypot(*(numerics.size(g).l2 for g in step.values())) for step in gradients]
    model = framework.params.build(lambda: program.make(framework), start, runtime)
    optimizer = framework.optim.Optimizer(model, CONFIG)
    ours = [
        {name: value.copy() for name, value in moved.items()}
        for moved in framework.trace.stepped(model, optimizer, gradients, runtime)
    ]
    for name, value in start.items():
        steps = by_hand.optimizer_steps(value, [g[name] for g in gradients], norms, CONFIG)
        for step, exact in enumerate(steps):
            key = f"{step} {name}"
            assert_same64({key: ours[step][name]}, {key: exact})
