"""GPT-2: its properties on each side, the same tensors on both, and the dtype asked for."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from bench.harness import programs
from shared import params
from shared.config import IGNORED, AdamWConfig, GPTConfig
from tests.helpers import verdicts
from twingrad import numerics

SMALL = GPTConfig(
    vocab_size=31,
    context_length=10,
    emb_dim=16,
    n_heads=2,
    n_layers=2,
    drop_rate=0.5,
    qkv_bias=True,
)
BARE = replace(SMALL, qkv_bias=False, tie_embeddings=False)
ATTENTIONS = ("fused_attention", "reference_attention")


@functools.cache
def _program(config=SMALL, attention="fused_attention"):
    return programs.gpt2(config=config, attention=attention, steps=3)


def _digits():
    """Parameters whose float64 digits are all in use, so that rounding one shows."""
    return {name: value / np.float64(3) for name, value in _program().params.items()}


@pytest.fixture(scope="module")
def observed(build):
    """One pass of a side, kept: compiling it is what costs."""

    @functools.cache
    def observe(framework, dtype, device, attention="fused_attention", config=SMALL):
        program = _program(config, attention)
        model, runtime = build(framework, program, dtype, device)
        return framework.trace.observe(model, framework.gpt2.loss_fn, program.batches[0], runtime)

    return observe


def _tensors(seen):
    """Everything that was observed, by name."""
    at = {f"{name}:output": value for name, value in seen.activation_gradients.items()}
    return {"loss": seen.loss, "logits": seen.output, **seen.activations, **at, **seen.gradients}


def _assert_within_float32_rule(ours, theirs, oracle):
    tensors = (
        {"loss": seen.loss, "logits": seen.output, **seen.gradients}
        for seen in (ours, theirs, oracle)
    )
    judged = verdicts.judge_float32(*tensors, numerics.scales(oracle.gradients))
    verdicts.assert_equal(judged, "float32")


# Parity


@pytest.mark.slow("cpu-untied, without")
@pytest.mark.parametrize("config", [SMALL, BARE], ids=["tied, with biases", "untied, without"])
def test_every_tensor_is_equal_on_both_sides_in_float64(
    observed, frameworks, device, assert_same64, config
):
    torch, jax = (
        _tensors(observed(framework, "float64", device, config=config)) for framework in frameworks
    )
    assert ("lm_head.weight" in torch) is not config.tie_embeddings
    assert ("h.0.attn.c_attn.bias" in torch) is config.qkv_bias
    assert_same64(torch, jax)


def test_every_float32_tensor_is_within_the_rule_on_both_sides(observed, frameworks, device):
    torch, jax = (observed(framework, "float32", device) for framework in frameworks)
    _assert_within_float32_rule(torch, jax, observed(frameworks[0], "float64", device))


# Attention


@pytest.mark.slow("jax-cpu")
def test_fused_attention_is_the_reference_in_float64(observed, framework, device, assert_same64):
    fused, reference = (
        _tensors(observed(framework, "float64", device, name)) for name in ATTENTIONS
    )
    assert_same64(fused, reference)


@pytest.mark.slow("jax-cpu")
def test_fused_attention_passes_the_float32_rule(observed, framework, device):
    fused, reference = (observed(framework, "float32", device, name) for name in ATTENTIONS)
    _assert_within_float32_rule(fused, reference, observed(framework, "float64", device))


@pytest.mark.slow("jax-cpu-*")
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_future_tokens_get_no_gradient(build, framework, device, attention):
    """From the logits at one position back to the embeddings of all."""
    position = 4

    def logits_there(model, inputs, targets):
        logits = model(inputs)
        return (logits[:, position] ** 2).sum(), logits

    program = _program(attention=attention)
    model, runtime = build(framework, program, "float32", device)
    seen = framework.trace.observe(model, logits_there, program.batches[0], runtime)
    for name in ("wte", "h.0.ln_2", "h.1.ln_1"):
        at = np.abs(seen.activation_gradients[name]).max(axis=(0, 2))  # (T,)
        assert np.all(at[: position + 1] > 0), name
        assert np.all(at[position + 1 :] == 0), name
    assert np.all(seen.gradients["wpe.weight"][position + 1 :] == 0)


# Shapes


@functools.cache
def _called(framework):
    """The model's call, compiled where that is the custom."""

    def call(model, tokens):
        return model(tokens)

    if framework.name == "torch":
        return call
    from flax import nnx

    return nnx.jit(call)


def _forward(framework, model, tokens):
    return framework.params.to_numpy(_called(framework)(model, tokens))


@pytest.mark.slow("jax")
def test_a_prefix_has_the_same_logits_whatever_follows_it(build, framework, assert_same64):
    model, runtime = build(framework, _program(), "float64", "cpu")
    (tokens,) = runtime.batch(_program().batches[0][0])
    whole = _forward(framework, model, tokens)
    B = len(tokens)
    assert whole.shape == (B, SMALL.context_length, SMALL.vocab_size)
    one = _forward(framework, model, tokens[:, :1])
    assert one.shape == (B, 1, SMALL.vocab_size)
    assert_same64({"logits": one}, {"logits": np.ascontiguousarray(whole[:, :1])})


# Loss


def test_the_loss_is_the_mean_cross_entropy_of_the_logits(observed, framework, assert_same64):
    seen, (_, targets) = observed(framework, "float64", "cpu"), _program().batches[0]
    shifted = seen.output - seen.output.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    counted = targets != IGNORED
    assert 0 < counted.sum() < counted.size
    loss = losses[counted].mean()
    assert_same64({"loss": seen.loss}, {"loss": np.asarray(loss)})


def test_at_initialisation_every_token_is_about_as_likely(build, framework):
    """The loss is ln V, and the half of the logits' variance that log-sum-exp adds."""
    program = _program()
    model, runtime = build(framework, program, "float64", "cpu", params.init_gpt2(SMALL))
    logits = _forward(framework, model, runtime.batch(program.batches[0][0])[0])
    std = params.INIT_STD * math.sqrt(SMALL.emb_dim)  # of a unit-variance vector times wte
    log_sum_exp = np.log(np.exp(logits).sum(axis=-1))
    apart = np.abs(log_sum_exp - math.log(SMALL.vocab_size))
    five_sigma = 5 * std / math.sqrt(SMALL.vocab_size)
    assert apart.max() < std**2 / 2 + five_sigma


# Dropout


@pytest.mark.slow("jax")
def test_dropout_acts_in_train_mode_only(build, framework):
    model, runtime = build(framework, _program(), "float32", "cpu")
    (tokens,) = runtime.batch(_program().batches[0][0])
    quiet = _forward(framework, model, tokens)
    assert np.array_equal(quiet, _forward(framework, model, tokens))
    model.train()
    first, second = _forward(framework, model, tokens), _forward(framework, model, tokens)
    assert not np.array_equal(first, quiet)
    assert not np.array_equal(first, second)
    model.eval()
    assert np.array_equal(quiet, _forward(framework, model, tokens))


# Dtypes


def test_float64_is_float64_in_every_activation(build, framework, device):
    start = _digits()
    model, runtime = build(framework, _program(), "float64", device, start)
    seen = framework.trace.observe(model, framework.gpt2.loss_fn, _program().batches[0], runtime)
    assert seen.dtype == "float64"
    for name, value in _tensors(seen).items():
        assert value.dtype == np.float64, name
        assert value.size == 1 or np.any(value != value.astype(np.float32)), name
    tokens = _program().batches[0][0]
    assert np.array_equal(seen.activations["wte"], start["wte.weight"][tokens])


@pytest.mark.slow("jax-cpu-*")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_lower_precision_is_that_precision_in_every_activation(
    observed, framework, device, dtype
):
    seen = observed(framework, dtype, device)
    assert seen.dtype == dtype
    unused_bits = {"float32": 0, "bfloat16": 16}[dtype]
    for name, value in _tensors(seen).items():
        assert value.dtype == np.float32, name
        bits = value.view(np.uint32)
        coarse = np.all(bits % 2**unused_bits == 0)
        assert coarse or name == "loss", name  # which is taken in float32
        assert dtype == "bfloat16" or np.any(bits % 2**16), name


# The trace


def _untraced(framework, model, batch):
    """Loss and gradients as a program takes them."""
    if framework.name == "torch":
        model.zero_grad()
        loss, _ = framework.gpt2.loss_fn(model, *batch)
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        return loss, framework.params.export_tensors(model, gradients)
    from flax import nnx

    gradient = nnx.jit(nnx.value_and_grad(framework.gpt2.loss_fn, has_aux=True))
    (loss, _), gradients = gradient(model, *batch)
    return loss, framework.params.export_tensors(gradients)


@pytest.mark.slow("jax-cpu")
def test_tracing_changes_neither_loss_nor_gradients(
    build, observed, framework, device, assert_same64
):
    model, runtime = build(framework, _program(), "float64", device)
    loss, gradients = _untraced(framework, model, runtime.batch(*_program().batches[0]))
    seen = observed(framework, "float64", device)
    assert_same64({"loss": seen.loss}, {"loss": framework.params.to_numpy(loss)})
    assert_same64(seen.gradients, gradients)


def test_every_module_is_traced_in_order_of_computation(observed, framework):
    block = ("ln_1", "attn.c_attn", "attn.c_proj", "attn", "ln_2", "mlp.c_fc", "mlp.c_proj", "mlp")
    blocks = [f"h.{i}{part}" for i in range(2) for part in (*(f".{name}" for name in block), "")]
    seen = observed(framework, "float64", "cpu")
    assert list(seen.activations) == ["wte", "wpe", *blocks, "ln_f"]
    assert seen.activation_gradients.keys() == seen.activations.keys()


def _hooks(framework, model):
    """What tracing puts in place: hooks on modules, or other calls on their classes."""
    if framework.name == "torch":
        return [len(module._forward_hooks) for module in model.modules()]
    from flax import nnx

    classes = {type(module) for _, module in nnx.iter_modules(model)}
    return {(cls, vars(cls).get("__call__")) for cls in classes}


def test_tracing_leaves_no_hook_behind_even_when_the_model_raises(build, framework):
    def loss_fn(model, inputs, targets):
        framework.gpt2.loss_fn(model, inputs, targets)
        raise ArithmeticError("in the middle")

    model, runtime = build(framework, _program(), "float32", "cpu")
    before = _hooks(framework, model)
    with framework.trace._recording(model, *({},) * (framework.name == "jax")):
        assert _hooks(framework, model) != before
    assert _hooks(framework, model) == before
    with pytest.raises(ArithmeticError):
        framework.trace.observe(model, loss_fn, _program().batches[0], runtime)
    assert _hooks(framework, model) == before


# Parameters in and out


def _exported(framework, model):
    if framework.name == "torch":
        return framework.params.export_tensors(model, dict(model.named_parameters()))
    from flax import nnx

    return framework.params.export_tensors(nnx.state(model, nnx.Param))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", [SMALL, BARE], ids=["tied, with biases", "untied, without"])
def test_parameters_survive_build_and_export_bit_for_bit(build, framework, device, config, dtype):
    start = {name: (value / 3).astype(dtype) for name, value in _program(config).params.items()}
    model, _ = build(framework, _program(config), dtype, device, start)
    found = _exported(framework, model)
    assert found.keys() == start.keys()
    for name, value in start.items():
        assert found[name].dtype == dtype, name
        assert np.array_equal(found[name], value), name


def test_a_model_holds_copies_of_its_parameters(build, framework):
    start = {name: value.copy() for name, value in _program().params.items()}
    model, _ = build(framework, _program(), "float32", "cpu", start)
    for value in start.values():
        value += 1
    for name, value in _exported(framework, model).items():
        assert np.array_equal(value, _program().params[name]), name


# Training


@pytest.fixture(scope="module")
def trained(build):
    """The losses and parameters of three steps with dropout, by train() and step by step."""

    @functools.cache
    def run(framework):
        config = replace(SMALL, n_layers=1)
        program, found = _program(config), {}
        for how in ("train", "steps"):
            model, runtime = build(framework, program, "float64", "cpu")
            model.train()
            optimizer = framework.optim.Optimizer(model, AdamWConfig(warmup_steps=1, total_steps=5))
            batches = [runtime.batch(*batch) for batch in program.batches]
            _seed(framework)
            if how == "train":
                losses = framework.train.train(model, optimizer, framework.gpt2.loss_fn, batches)
            else:
                losses = [_step(framework, model, optimizer, batch) for batch in batches]
            losses = [framework.params.to_numpy(loss) for loss in losses]
            after = {name: value.copy() for name, value in _exported(framework, model).items()}
            found[how] = {f"loss[{i}]": loss for i, loss in enumerate(losses)} | after
        return program, found["train"], found["steps"]

    return run


def _seed(framework):
    if framework.name == "torch":
        import torch

        torch.manual_seed(0)


def _step(framework, model, optimizer, batch):
    if framework.name == "torch":
        return framework.train.train_step(model, optimizer, framework.gpt2.loss_fn, batch)
    from flax import nnx

    step = nnx.jit(framework.train.train_step, static_argnums=2)
    return step(model, optimizer, framework.gpt2.loss_fn, batch)


@pytest.mark.slow("jax")
def test_train_is_train_step_over_and_over_dropout_included(trained, framework, assert_same64):
    _, whole, stepwise = trained(framework)
    assert_same64(whole, stepwise, relative=numerics.FLOAT64_TRAJECTORY_RELATIVE)


@pytest.mark.slow("jax")
def test_the_model_itself_is_trained(trained, framework):
    program, whole, _ = trained(framework)
    for name, value in program.params.items():
        assert not np.array_equal(whole[name], value), name
