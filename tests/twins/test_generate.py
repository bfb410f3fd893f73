"""Decoding: the cache changes nothing, both sides say the same, and draws follow the softmax."""

import functools
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from shared import transformers_io
from shared.sampling import Sampling
from tests.helpers.decoding import (
    CONFIG,
    GREEDY,
    NEW,
    PROMPTS,
    each_config,
    make_program,
    texts_of,
    whole_forward,
)
from twingrad import numerics

ROOT = Path(__file__).parents[2]


def _decoder(framework, model, runtime):
    """``decode`` as a function of NumPy arrays that keeps its cache: compiled where it can be."""
    if framework.name == "jax":
        step = framework.generate.compiled(model, runtime)
    else:
        step = functools.partial(framework.generate.decode, model)
    kept = []

    def decode(tokens, positions, last, *, fresh=False):
        if fresh:
            length = model.wpe.num_embeddings
            kept[:] = [framework.generate.new_cache(model, len(tokens), length)]
        batch = runtime.batch(*map(np.asarray, (tokens, positions, last)))
        found = step(kept[0], *batch)
        logits, kept[0] = found if framework.name == "jax" else (found, kept[0])
        return framework.params.to_numpy(logits)

    return decode


def _assert_close(ours, exact, relative=numerics.FLOAT64_RELATIVE, what=""):
    apart, scale = numerics.distance(ours, exact), numerics.size(exact)
    assert apart.l2 <= relative * scale.l2, what
    assert apart.peak <= relative * scale.peak, what


@pytest.mark.slow("jax-cpu*")
@each_config
def test_cached_logits_equal_uncached_at_every_position(framework, model, config):
    made, runtime = model(framework, config=config)
    tokens = np.random.default_rng(3).integers(config.vocab_size, size=(2, config.context_length))
    exact = whole_forward(framework, made, runtime)(tokens)  # (B, T, V)
    decode = _decoder(framework, made, runtime)
    for position in range(config.context_length):
        at = np.full((2, 1), position)
        logits = decode(tokens[:, position, None], at, [0, 0], fresh=position == 0)
        _assert_close(logits, exact[:, position], what=f"position {position}, one by one")
    every = np.tile(np.arange(config.context_length), (2, 1))
    for position in range(config.context_length):
        logits = decode(tokens, every, [position] * 2, fresh=True)
        _assert_close(logits, exact[:, position], what=f"position {position}, all at once")


@pytest.mark.slow("jax-cpu")
def test_a_prompt_in_pieces_is_the_prompt(framework, model):
    made, runtime = model(framework)
    tokens = np.random.default_rng(4).integers(CONFIG.vocab_size, size=(1, 12))
    exact = whole_forward(framework, made, runtime)(tokens)
    decode = _decoder(framework, made, runtime)
    for start, end in itertools.pairwise((0, 5, 8, 12)):
        at = np.arange(start, end)[None]
        logits = decode(tokens[:, start:end], at, [end - start - 1], fresh=start == 0)
        _assert_close(logits, exact[:, end - 1], what=f"up to {end}")


@pytest.mark.slow("jax-cpu")
def test_greedy_texts_are_those_without_the_cache(framework, model):
    made, runtime = model(framework)
    forward = whole_forward(framework, made, runtime)
    for prompt, text in zip(
        PROMPTS, texts_of(framework, made, PROMPTS, GREEDY, runtime), strict=True
    ):
        said = list(prompt)
        for token in text:
            assert forward([said])[0, len(said) - 1].argmax() == token, said
            said.append(token)


@pytest.mark.slow("jax-*")
def test_prompts_of_different_lengths_do_not_interact(framework, model):
    made, runtime = model(framework)
    together = texts_of(framework, made, PROMPTS, GREEDY, runtime)
    for prompt, text in zip(PROMPTS, together, strict=True):
        assert np.array_equal(texts_of(framework, made, [prompt], GREEDY, runtime)[0], text), prompt


@pytest.mark.slow("jax-cpu")
def test_what_pads_a_short_prompt_is_never_seen(framework, model):
    made, runtime = model(framework)
    decode = _decoder(framework, made, runtime)
    said = []
    for filling in (0, 50):
        tokens = np.full((2, 4), filling)
        tokens[0], tokens[1, :2] = PROMPTS[1], (8, 9)
        said.append([decode(tokens, np.tile(np.arange(4), (2, 1)), [3, 1], fresh=True)])
        for i in range(4):
            said[-1].append(decode([[30 + i], [40 + i]], [[4 + i], [2 + i]], [0, 0]))
    assert np.array_equal(*said)


@pytest.mark.slow("jax-*")
def test_the_cache_is_allocated_once(framework, model, monkeypatch):
    """And then written over: in place by PyTorch, by donation in JAX."""
    made, runtime = model(framework, "float32")
    address = {
        "torch": lambda tensor: tensor.data_ptr(),
        "jax": lambda array: array.unsafe_buffer_pointer(),
    }[framework.name]
    seen = []

    def spied(step):
        def spy(*args):
            cache = next(a for a in args if isinstance(a, framework.generate.Cache))
            assert cache.keys[0].shape == (3, 5, 7 + NEW, 8)
            seen.append([address(tensor) for layers in cache for tensor in layers])
            return step(*args)

        return spy

    if framework.name == "torch":
        monkeypatch.setattr(framework.generate, "decode", spied(framework.generate.decode))
    else:
        compiled = framework.generate.compiled
        monkeypatch.setattr(framework.generate, "compiled", lambda *given: spied(compiled(*given)))
    texts_of(framework, made, PROMPTS, GREEDY, runtime)
    assert len(seen) == NEW
    assert len(set(seen[0])) == 2 * CONFIG.n_layers
    for step, addresses in enumerate(seen):
        assert addresses == seen[0], f"step {step}"


@pytest.mark.slow
def test_a_compiled_step_writes_to_the_cache_without_copying_it(frameworks, model):
    framework = frameworks[1]
    made, runtime = model(framework, "float32")
    if runtime.device.platform != "cpu":
        pytest.skip("written for what XLA does on a CPU")
    cache = framework.generate.new_cache(made, 1, 40)
    batch = runtime.batch(np.zeros((1, 1), int), np.full((1, 1), 30), np.zeros(1, int))
    step = framework.generate.compiled(made, runtime)
    program = step.func.lower(*step.args, cache, *batch).compile().as_text()
    shape = ",".join(map(str, cache.values[0].shape))
    copies = re.findall(rf"= f32\[{shape}\]\S* copy\(", program)
    assert f"f32[{shape}]" in program
    assert not copies


@each_config
def test_decode_layout_generates_the_same_and_leaves_the_model_unchanged(frameworks, model, config):
    framework = frameworks[0]
    made, runtime = model(framework, "float32", config)
    if runtime.device.type != "cpu":
        pytest.skip("weights change their layout on a CPU only")
    names = ["wte.weight" if config.tie_embeddings else "lm_head.weight"]
    names += [f"h.{i}.{name}.weight" for i in range(2) for name in ("attn.c_attn", "mlp.c_fc")]
    before = {name: (p, p.data_ptr(), p.stride()) for name, p in made.named_parameters()}
    copy = framework.generate.decode_layout(made)
    for name, parameter in copy.named_parameters():
        mine, address, strides = before[name]
        assert (mine.data_ptr(), mine.stride()) == (address, strides), name
        assert (parameter == mine).all(), name
        if name in names:
            assert parameter.stride() == (1, len(parameter)), name
            assert not parameter.requires_grad, name
        else:
            assert parameter is mine, name
    for asked in (GREEDY, Sampling(seed=3)):
        ours = texts_of(framework, made, PROMPTS, asked, runtime)
        assert (texts_of(framework, copy, PROMPTS, asked, runtime) == ours).all()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_only_float32_changes_its_layout(frameworks, model, dtype):
    made = model(frameworks[0], dtype)[0]
    for ours, theirs in zip(
        frameworks[0].generate.decode_layout(made).parameters(), made.parameters(), strict=True
    ):
        assert ours is theirs


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # some of the compiler's own
def test_a_compiled_model_takes_the_decode_layout(frameworks, model):
    made, runtime = model(frameworks[0], "float32")
    plain = texts_of(frameworks[0], made, PROMPTS, GREEDY, runtime)
    for block in made.h:
        block.compile()
    assert (
        texts_of(
            frameworks[0], frameworks[0].generate.decode_layout(made), PROMPTS, GREEDY, runtime
        )
        == plain
    ).all()


@pytest.mark.slow("cpu")
def test_jax_compiles_the_prompt_and_the_step_and_nothing_more(frameworks, model):
    import jax

    framework, compiled = frameworks[1], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "compile" in event else None
    )
    made, runtime = model(framework, "float32")
    counts = []
    for run in range(2):
        prompts = [[1 + run] * 9, [2 + run] * 3]  # sizes of no other test
        asked = Sampling(seed=run)
        for _ in framework.generate.generate(made, prompts, 12, asked, runtime):
            counts.append(len(compiled))
            compiled.clear()
    assert counts[0] > 0
    assert counts[1] > 0
    assert counts[2:] == [0] * 22


@pytest.mark.slow("jax-*")
def test_bfloat16_cached_logits_are_within_the_ceiling(framework, model):
    made, runtime = model(framework, "bfloat16")
    tokens = np.random.default_rng(5).integers(CONFIG.vocab_size, size=(2, 20))
    rounded = whole_forward(framework, made, runtime)(tokens)
    decode = _decoder(framework, made, runtime)
    relative = numerics.CEILING_U["bfloat16"] * numerics.UNIT_ROUNDOFF["bfloat16"]
    for position in range(20):
        at = np.full((2, 1), position)
        logits = decode(tokens[:, position, None], at, [0, 0], fresh=position == 0)
        _assert_close(logits, rounded[:, position], relative, f"position {position}")


@pytest.mark.slow("cpu-float32*", "cpu-float64-untied*")
@each_config
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_greedy_texts_agree_with_transformers_and_each_other(
    frameworks, texts, tmp_path, config, dtype
):
    torch = pytest.importorskip("torch", reason="the oracle runs in PyTorch")
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers' GPT-2")
    said = [
        texts(framework, PROMPTS, GREEDY, dtype=dtype, config=config) for framework in frameworks
    ]
    assert np.array_equal(*said)
    assert min(len(set(text)) for text in said[0].tolist()) > 4  # or it says nothing
    transformers_io.save(tmp_path, config, make_program(config).params)
    oracle = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path, dtype=getattr(torch, dtype), attn_implementation="eager"
    )
    for cached in (True, False):
        options = {"max_new_tokens": NEW, "do_sample": False, "use_cache": cached}
        for prompt, text in zip(PROMPTS, said[0], strict=True):
            inputs = torch.tensor([prompt])
            mask = torch.ones_like(inputs)
            whole = oracle.generate(inputs, attention_mask=mask, pad_token_id=0, **options)
            assert np.array_equal(whole[0, len(prompt) :], text), prompt


@pytest.mark.slow("cpu-{'temperature': [!1]*", "cpu-{'temperature': 1.3*")
@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 10},
        {"temperature": 2.5, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 20, "top_p": 0.8},
    ],
    ids=str,
)
def test_a_seed_says_the_same_on_both_sides(frameworks, model, asked):
    said = []
    for framework in frameworks:
        made, runtime = model(framework, "float32")
        said.append(
            [
                texts_of(framework, made, PROMPTS, Sampling(seed=seed, **asked), runtime)
                for seed in range(8)
            ]
        )
    for seed, (torch, jax) in enumerate(zip(*said, strict=True)):
        assert np.array_equal(torch, jax), f"seed {seed}"
    assert len({text.tobytes() for text in said[0]}) == 8


@pytest.mark.slow("jax-*")
def test_a_seeds_text_does_not_depend_on_its_length(framework, texts):
    asked = Sampling(seed=5)
    long = texts(framework, PROMPTS, asked)
    assert np.array_equal(texts(framework, PROMPTS, asked, new_tokens=4), long[:, :4])
    assert np.array_equal(texts(framework, PROMPTS[:1], asked), long[:1])  # the first of several


@pytest.mark.parametrize(
    "asked",
    [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-300}, {"temperature": 1e-3}],
    ids=str,
)
def test_the_narrowest_draw_is_greedy(framework, texts, asked):
    assert np.array_equal(
        texts(framework, PROMPTS, Sampling(**asked)), texts(framework, PROMPTS, GREEDY)
    )


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "said"),
    [
        ([], 1, "there is no prompt"),
        ([[1], []], 1, "prompt 2 is empty"),
        ([[1], [2, 97]], 1, "prompt 2 holds token 97: expected 0 to 96"),
        ([[-1]], 1, "prompt 1 holds token -1: expected 0 to 96"),
        ([[0.5]], 1, "prompt 1 has dtype float64"),
        ([[[1, 2]]], 1, r"prompt 1 has dtype int64 and shape \(1, 2\)"),
        ([[1]], 0, "new tokens are 0: expected a whole number, 1 or more"),
        ([[1]], 2.0, "new tokens are 2.0: expected a whole number"),
    ],
)
def test_prompts_that_the_model_cannot_take_are_refused_at_once(
    framework, model, unchecked, prompts, new_tokens, said
):
    made, runtime = model(framework)
    with pytest.raises(ValueError, match=said):
        framework.generate.generate(made, prompts, new_tokens, GREEDY, runtime)


# Lengths over the context, under it, and of it.
LONG = [np.random.default_rng(9).integers(97, size=n).tolist() for n in (30, 5, 24)]


@pytest.mark.slow("jax-cpu*")
@each_config
def test_every_token_is_of_the_last_context_of_its_text(framework, model, monkeypatch, config):
    """The logits, too: of the whole forward pass over the last 24 tokens."""
    made, runtime = model(framework, config=config)
    forward, seen = whole_forward(framework, made, runtime), []

    def spied(logits, noise, sampling, choose=framework.generate.choose):
        seen.append(logits)
        return choose(logits, noise, sampling)

    monkeypatch.setattr(framework.generate, "choose", spied)
    new = 30
    together = texts_of(framework, made, LONG, GREEDY, runtime, new_tokens=new)
    for row, (prompt, text) in enumerate(zip(LONG, together.tolist(), strict=True)):
        whole = [*prompt, *text]
        for i in range(new):
            end = len(prompt) + i
            last = whole[max(end - config.context_length, 0) : end]
            exact = forward([last])[0, len(last) - 1]
            _assert_close(seen[i][row], exact, what=f"token {i} of prompt {row}")
            assert exact.argmax() == whole[end]


@pytest.mark.slow("cpu-asked0")
@pytest.mark.parametrize("asked", [GREEDY, Sampling(seed=3, temperature=1.3, top_k=20, top_p=0.8)])
def test_texts_past_the_context_are_the_same_on_both_sides(frameworks, model, asked):
    written = []
    for framework in frameworks:
        made, runtime = model(framework, "float32")
        written.append(texts_of(framework, made, LONG, asked, runtime, new_tokens=40))
    assert np.array_equal(*written)
    assert max(len(set(text)) for text in written[0].tolist()) > 4  # or it says nothing


@pytest.mark.slow("cpu")
def test_texts_past_the_context_agree_with_transformers(frameworks, texts, tmp_path):
    """Its own ``generate`` ends at the context, so its forward pass is given the last tokens."""
    torch = pytest.importorskip("torch", reason="the oracle runs in PyTorch")
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers' GPT-2")
    transformers_io.save(tmp_path, CONFIG, make_program(CONFIG).params)
    oracle = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager"
    )
    written = [texts(framework, LONG, GREEDY, new_tokens=12) for framework in frameworks]
    assert np.array_equal(*written)
    for prompt, text in zip(LONG, written[0].tolist(), strict=True):
        whole = [*prompt, *text]
        for end in range(len(prompt), len(whole)):
            last = torch.tensor([whole[max(end - CONFIG.context_length, 0) : end]])
            with torch.no_grad():
                assert oracle(last).logits[0, -1].argmax() == whole[end], end


@pytest.mark.slow("jax-cpu")
def test_the_whole_context_can_be_filled(framework, texts):
    room = CONFIG.context_length - len(PROMPTS[2])
    assert texts(framework, PROMPTS, GREEDY, new_tokens=room).shape == (3, room)


def test_a_model_in_training_mode_is_refused(framework, model):
    made, runtime = model(framework)
    made.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        framework.generate.generate(made, PROMPTS, 1, GREEDY, runtime)
