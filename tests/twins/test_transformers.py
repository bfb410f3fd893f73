"""A third opinion: transformers' GPT-2 on the same weights, and folders that both can read."""

import functools

import numpy as np
import pytest

from bench.harness import programs
from shared import data, params, transformers_io
from shared.config import GPTConfig

torch = pytest.importorskip("torch", reason="the oracle runs in PyTorch")
transformers = pytest.importorskip("transformers", reason="the oracle is transformers' GPT-2")

SIZES = {"vocab_size": 97, "n_positions": 23, "n_embd": 40, "n_head": 5, "n_layer": 3}
CONFIG = GPTConfig(
    vocab_size=97, context_length=23, emb_dim=40, n_heads=5, n_layers=3, qkv_bias=True
)
TOKENS = data.token_batch(CONFIG, batch_size=3, length=17, seed=0)

tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@functools.cache
def _oracle(tied=True):
    """A GPT-2 of transformers in float64, every parameter random: gains and biases too."""
    config = transformers.GPT2Config(**SIZES, tie_word_embeddings=tied, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).double().eval()
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=drawn, dtype=p.dtype)
            p.copy_(noise * 0.1 + (1 if ".ln_" in name and name.endswith("weight") else 0))
    return model


@functools.cache
def _expected(tied):
    """The oracle's loss, logits and every gradient under canonical names."""
    model = _oracle(tied)
    inputs, targets = (torch.tensor(part).long() for part in data.split_tokens(TOKENS))
    model.zero_grad()
    logits = model(inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    gradients = {
        name.removeprefix("transformer."): p.grad.numpy() for name, p in model.named_parameters()
    }
    return {"loss": loss.detach().numpy(), "logits": logits.detach().numpy(), **gradients}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    """A folder that transformers saved, and whether its embeddings are tied."""
    folder = tmp_path_factory.mktemp("saved")
    _oracle(request.param).save_pretrained(folder)
    return folder, request.param


def _observed(build, framework, device, config, start):
    program = programs.gpt2(config=config, start=start, tokens=TOKENS, steps=1)
    model, runtime = build(framework, program, "float64", device)
    return framework.trace.observe(model, framework.gpt2.loss_fn, program.batches[0], runtime)


@pytest.mark.slow("jax-cpu-*", "torch-cpu-tied")
def test_logits_and_every_gradient_are_those_of_transformers(
    saved, build, framework, device, assert_same64
):
    folder, tied = saved
    config, start = transformers_io.load(folder)
    assert start["wte.weight"].dtype == np.float64
    assert config.tie_embeddings is tied
    seen = _observed(build, framework, device, config, start)
    ours = {"loss": seen.loss, "logits": seen.output, **seen.gradients}
    assert_same64(ours, _expected(tied))


def test_what_transformers_saved_is_what_it_had(saved):
    folder, tied = saved
    config, start = transformers_io.load(folder)
    assert (config.context_length, config.n_heads, config.qkv_bias) == (23, 5, True)
    for name, p in _oracle(tied).named_parameters():
        assert np.array_equal(start.pop(name.removeprefix("transformer.")), p.detach()), name
    assert not start


def test_shards_that_transformers_saved_load_as_one(tmp_path):
    _oracle().save_pretrained(tmp_path / "whole")
    _oracle().save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    _, whole = transformers_io.load(tmp_path / "whole")
    _, shards = transformers_io.load(tmp_path / "shards")
    assert list(whole) == list(shards)
    for name, value in whole.items():
        assert np.array_equal(value, shards[name]), name


def test_16_bit_weights_of_transformers_load_as_float32(tmp_path):
    for dtype in (torch.float16, torch.bfloat16):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES)).to(dtype)
        model.save_pretrained(tmp_path / str(dtype))
        _, start = transformers_io.load(tmp_path / str(dtype))
        for name, p in model.named_parameters():
            value = start[name.removeprefix("transformer.")]
            assert value.dtype == np.float32, name
            assert np.array_equal(value, p.detach().float()), name


@pytest.mark.slow("jax-*")
@tied_or_not
@pytest.mark.parametrize("qkv_bias", [True, False], ids=["with biases", "without"])
def test_transformers_loads_our_export_with_the_same_logits(
    build, framework, tmp_path, assert_same64, tied, qkv_bias
):
    sizes = {**vars(CONFIG), "tie_embeddings": tied, "qkv_bias": qkv_bias}
    config = GPTConfig(**sizes)
    start = {n: v.astype(np.float64) for n, v in params.init_gpt2(config, spread=0.1).items()}
    transformers_io.save(tmp_path, config, start)
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys"))
    program = programs.gpt2(config=config, start=start, tokens=TOKENS, steps=1)
    model, runtime = build(framework, program, "float64", "cpu")
    inputs, _ = program.batches[0]
    ours = framework.params.to_numpy(model(*runtime.batch(inputs)))
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(inputs).long()).logits.numpy()
    assert_same64({"logits": ours}, {"logits": logits})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 100),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
    ],
)
def test_a_gpt2_that_transformers_computes_otherwise_is_refused(tmp_path, field, value):
    config = transformers.GPT2Config(**SIZES, **{field: value})
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"config.json has {field} {value!r}: expected"):
        transformers_io.load(tmp_path)
