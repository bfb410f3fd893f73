"""The training steps as a GPU would be given them, looked at on a machine without one."""

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench.harness import frameworks, programs
from shared import data, params
from shared.config import AdamWConfig, GPTConfig, TrainConfig

# Heads of 64, as cuDNN's attention wants them, and a vocabulary unlike any other size.
MODEL = GPTConfig(
    vocab_size=1031, context_length=64, emb_dim=128, n_heads=2, n_layers=2, drop_rate=0.0
)
PADDED = 1152  # the vocabulary, up to a multiple of 128
B, T = 4, 32
ATTENTION, ITS_GRADIENT = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


def _trainer(framework, dtype: str = "bfloat16", model: GPTConfig = MODEL, **options):
    runtime = framework.runtime.configure(dtype, "cpu")
    made = framework.params.build(
        lambda: framework.make_gpt2(model),
        params.init_gpt2(model, 0, programs.SPREAD),
        runtime.master,
    )
    config = TrainConfig(optimizer=AdamWConfig(), batch_size=B, dtype=dtype, **options)
    return framework.train.Trainer(made, config, runtime)


def _batch(micro_batches: int = 1):
    x, y = data.split_tokens(data.token_batch(MODEL, B, T, 0))
    return tuple(part.reshape(micro_batches, -1, T) for part in (x, y))


@contextmanager
def hopper():
    """JAX's module for cuDNN; what JAX asks of the GPU is answered: a Hopper with cuDNN 9.10."""
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    from jax_impl import gpt2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
        patch.setattr(cudnn, "check_compute_capability", lambda capability: True)
        patch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)
        patch.setattr(gpt2, "computes_on_gpu", lambda: True)
        yield cudnn


def _lowered(function, *arguments) -> str:
    """``function`` as it is lowered for CUDA, in StableHLO."""
    import jax

    # Custom calls are refused by default, since versions may differ in their meaning.
    names = (ATTENTION, ITS_GRADIENT, f"{ATTENTION}Dropout")
    allowed = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    export = jax.export.export(function, platforms=["cuda"], disabled_checks=allowed)
    return export(*arguments).mlir_module()


@pytest.fixture(scope="module")
def program():
    """JAX's training step in bfloat16 as it is lowered for CUDA, and how many arrays it takes."""
    with hopper():
        trainer = _trainer(frameworks.one("jax"))
        text = _lowered(trainer._step, trainer.leaves, trainer._batch(*_batch()))
    return text, len(trainer.leaves)


def test_cudnns_own_dropout_has_its_seed_in_the_program():
    """Why it is not used: a step's key is data, and no mask could follow from it."""
    with hopper() as cudnn:
        import jax
        import jax.numpy as jnp

        def attention(q, seed):
            return cudnn.dot_product_attention(q, q, q, seed=seed, dropout_rate=0.1)

        q = jnp.zeros((1, 8, 2, 64), jnp.bfloat16)
        fixed = _lowered(jax.jit(attention, static_argnums=1), q, 1234567)
        assert "1234567" in fixed
        with pytest.raises(TypeError, match=r"Tracer|traced|hash"):
            _lowered(jax.jit(attention), q, 1234567)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_native_dropout_leaves_pytorchs_fused_kernel_on(rate, monkeypatch):
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    from torch.nn import functional

    kernel, rates = functional.scaled_dot_product_attention, []

    def attention(*tensors, is_causal, dropout_p):
        rates.append(dropout_p)
        return kernel(*tensors, is_causal=is_causal, dropout_p=dropout_p)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    model = replace(MODEL, drop_rate=rate)
    _trainer(frameworks.one("torch"), model=model, dropout="native").step(*_batch())
    assert rates == [rate] * MODEL.n_layers


def test_attention_is_cudnns_forward_and_backward(program):
    text, _ = program
    calls = re.findall(r"stablehlo\.custom_call @([\w$]+)\(", text)
    assert calls.count(ATTENTION) == MODEL.n_layers
    assert calls.count(ITS_GRADIENT) == MODEL.n_layers


def _scattered(text: str) -> list[str]:
    """The types that scatters of ``text`` return."""
    after = text.split('"stablehlo.scatter"(')[1:]
    return [re.search(r"^\s*}\) : \(.*\) -> (tensor<[\w]+>)", part, re.M)[1] for part in after]


def test_nothing_is_scattered_but_the_gradients_of_embeddings(program):
    text, _ = program
    V, C = MODEL.vocab_size, MODEL.emb_dim
    shapes = {kind.rpartition("x")[0].removeprefix("tensor<") for kind in _scattered(text)}
    assert shapes <= {f"{V}x{C}", f"{MODEL.context_length}x{C}", f"{T}x{C}"}, _scattered(text)
    assert f"{V}x{C}" in shapes


def test_gradients_of_embeddings_are_scattered_in_float32(program):
    text, _ = program
    assert {kind.rpartition("x")[2] for kind in _scattered(text)} == {"f32>"}


def _multiplied(text: str) -> list[tuple[int, ...]]:
    """The shapes of the operands and results of all matrix products of ``text``."""
    products = re.findall(r"stablehlo\.dot_general .* : (.*)$", text, re.M)
    kinds = [kind for product in products for kind in re.findall(r"tensor<([\dx]+)x\w+>", product)]
    return [tuple(map(int, kind.split("x"))) for kind in kinds]


def test_the_head_is_multiplied_in_multiples_of_128(program):
    text, _ = program
    sizes = {size for shape in _multiplied(text) for size in shape}
    assert PADDED in sizes
    assert MODEL.vocab_size not in sizes


def test_an_odd_vocabulary_would_be_seen(monkeypatch):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    from jax_impl import loss

    monkeypatch.setattr(loss, "ALIGNMENT", 1)
    trainer = _trainer(frameworks.one("jax"))
    text = trainer._gradients.lower(trainer.leaves, trainer._batch(*_batch())).as_text()
    assert MODEL.vocab_size in {size for shape in _multiplied(text) for size in shape}


@pytest.mark.parametrize("chunk", [0, 16])
def test_pytorch_scatters_in_float32_and_multiplies_the_head_in_multiples_of_128(chunk):
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    scattered, multiplied = [], set()

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            name = function.overloadpacket.__name__
            if name == "embedding_dense_backward":
                scattered.append((tuple(result.shape), result.dtype))
            if name in ("mm", "addmm", "addmm_"):
                tensors = [x for x in (*arguments, result) if isinstance(x, torch.Tensor)]
                multiplied.update(size for x in tensors for size in x.shape)
            return result

    trainer = _trainer(frameworks.one("torch"), loss_chunk=chunk)
    with Recorder():
        trainer.step(*_batch())
    V, C = MODEL.vocab_size, MODEL.emb_dim
    assert sorted(scattered) == sorted(
        [((V, C), torch.float32), ((MODEL.context_length, C), torch.float32)]
    )
    assert PADDED in multiplied
    assert V not in multiplied


def test_a_scatter_into_all_logits_would_be_seen():
    import jax
    import jax.numpy as jnp
    import optax

    def loss(x, y):
        return optax.softmax_cross_entropy_with_integer_labels(x, y).sum()

    shapes = jnp.zeros((B * T, MODEL.vocab_size)), jnp.zeros(B * T, jnp.int32)
    text = jax.jit(jax.grad(loss)).lower(*shapes).as_text()
    assert any(f"{B * T}x{MODEL.vocab_size}x" in kind for kind in _scattered(text))


def test_nothing_is_float64(program):
    text, _ = program
    assert not re.findall(r"\bf64\b|xf64", text)
    assert "xbf16" in text


def test_the_whole_state_is_donated(program):
    text, leaves = program
    donated = re.findall(r"tf\.aliasing_output|jax\.buffer_donor", text)
    assert len(donated) == leaves


@pytest.fixture
def counters(monkeypatch):
    """Counts what PyTorch's compiler sees, without generating code of it."""
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    import functools

    import torch
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


@pytest.mark.slow("0.1-*", "0.0-0")
@pytest.mark.filterwarnings("default")  # some of the compiler's own
@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_pytorchs_compiled_step_has_no_graph_break(counters, unchecked, chunk, rate):
    model = replace(MODEL, drop_rate=rate)
    trainer = _trainer(frameworks.one("torch"), model=model, loss_chunk=chunk, compile=True)
    for _ in range(2):
        trainer.step(*_batch())
    assert sum(counters["graph_break"].values()) == 0
    # The model with its loss is one graph, and so is a block, which serves for all.
    assert counters["stats"]["unique_graphs"] == 1
