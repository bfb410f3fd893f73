"""Mixed precision: embeddings read from the parameters, and a head whose rows are padded."""

from dataclasses import replace

import numpy as np
import pytest

from bench.harness import programs
from shared import data, params
from shared.config import IGNORED, AdamWConfig, GPTConfig, TrainConfig

MODEL = GPTConfig(
    vocab_size=61, context_length=16, emb_dim=24, n_heads=4, n_layers=1, drop_rate=0.0
)
N, C, V = 20, 24, 61


def _head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, a head and targets, some of which are ignored."""
    random = np.random.default_rng(0)
    targets = random.integers(V, size=N)
    targets[7:12] = IGNORED
    return random.normal(size=(N, C)), random.normal(size=(V, C)), targets


def _loss_and_gradients(framework, chunk: int) -> dict[str, np.ndarray]:
    """The loss of ``_head`` in float64, with and without gradients being asked for, and these."""
    x, weight, y = framework.runtime.configure("float64", "cpu").batch(*_head())

    def loss_of(x, weight):
        return framework.loss.head_loss(x, weight, y, chunk)

    value = loss_of(x, weight)
    if framework.name == "torch":
        import torch

        loss = loss_of(x.requires_grad_(), weight.requires_grad_())
        gradients = torch.autograd.grad(loss, (x, weight))
    else:
        import jax

        loss, gradients = jax.value_and_grad(loss_of, argnums=(0, 1))(x, weight)
    named = zip(("value", "loss", "x", "weight"), (value, loss, *gradients), strict=True)
    return {name: framework.params.to_numpy(array) for name, array in named}


def _padded_always(framework):
    """What ``_aligned`` does to 16-bit weights, for those of any dtype."""
    rest = -V % framework.loss.ALIGNMENT
    assert rest

    def aligned(weight):
        if framework.name == "torch":
            import torch

            return torch.nn.functional.pad(weight, (0, 0, 0, rest))
        import jax.numpy as jnp

        return jnp.pad(weight, ((0, rest), (0, 0)))

    return aligned


@pytest.mark.parametrize("chunk", [0, 7])
def test_padding_is_in_no_loss_and_in_no_gradient(framework, chunk, monkeypatch):
    plain = _loss_and_gradients(framework, 0)
    monkeypatch.setattr(framework.loss, "_aligned", _padded_always(framework))
    padded = _loss_and_gradients(framework, chunk)
    for name, value in plain.items():
        assert padded[name].shape == value.shape
        assert np.abs(padded[name] - value).max() <= 1e-13 * np.abs(value).max(), name


def test_wider_heads_are_not_padded(framework):
    for dtype, rows in (("float64", V), ("float32", V), ("bfloat16", 128)):
        _, weight, _ = framework.runtime.configure(dtype, "cpu").batch(*_head())
        assert framework.loss._aligned(weight).shape == (rows, C)


def _trainer(framework, model: GPTConfig = MODEL, dtype: str = "bfloat16"):
    config = TrainConfig(optimizer=AdamWConfig(), batch_size=4, dtype=dtype)
    runtime = framework.runtime.configure(dtype, "cpu")
    values = params.init_gpt2(model, 0, programs.SPREAD)
    made = framework.params.build(lambda: framework.make_gpt2(model), values, runtime.master)
    return framework.train.Trainer(made, config, runtime)


def _batch(micro_batches: int = 2):
    x, y = data.split_tokens(data.token_batch(MODEL, 4, 12, 0))
    return tuple(part.reshape(micro_batches, -1, 12) for part in (x, y))


@pytest.mark.slow("jax")
def test_state_and_logits_are_those_of_the_tokens(framework):
    trainer = _trainer(framework)
    trainer.step(*_batch())
    shapes = params.gpt2_shapes(MODEL)
    state = trainer.export()
    for part in (state.params, state.first_moment, state.second_moment):
        assert {name: value.shape for name, value in part.items()} == shapes
    model = trainer.computing_model()
    (tokens,) = trainer.runtime.batch(_batch()[0][0])
    logits = model(tokens)
    assert logits.shape == (2, 12, MODEL.vocab_size)
    assert "bfloat16" in str(logits.dtype)


@pytest.mark.slow("jax-*")
@pytest.mark.parametrize("tied", [True, False])
def test_an_embeddings_gradients_add_up_in_float32(framework, tied):
    """A token that stands often: its gradients are many, and bfloat16 would lose half of each."""
    model = replace(MODEL, tie_embeddings=tied)
    inputs, targets = (np.full_like(part, 5) for part in _batch(1))
    targets[:] = np.arange(targets.size).reshape(targets.shape) % 5
    rounded, exact = (
        framework.trainer_gradients(_trainer(framework, model, dtype), inputs, targets)[1]
        for dtype in ("bfloat16", "float64")
    )
    row = rounded["wte.weight"][5]
    # A float32 sum of numbers with 8 bits needs more than 8 bits.
    assert (row.view(np.uint32) & 0xFFFF).any()
    error = np.linalg.norm(row - exact["wte.weight"][5]) / np.linalg.norm(exact["wte.weight"][5])
    assert error < 4 * 2**-8


@pytest.mark.slow("jax")
def test_a_narrow_copy_reads_what_the_parameters_are_now(framework):
    trainer, fresh = _trainer(framework), _trainer(framework)
    for _ in range(2):
        trainer.step(*_batch())
    fresh.restore(trainer.export())
    again, anew = (framework.trainer_gradients(t, *_batch()) for t in (trainer, fresh))
    assert again[0] == anew[0]
    for name, gradient in again[1].items():
        assert np.array_equal(gradient, anew[1][name]), name
