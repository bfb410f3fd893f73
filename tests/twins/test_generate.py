"""Decoding: the cache changes nothing, both sides say the same, and draws follow the softmax."""

import functools
import itertools
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bench.harness import programs
from bench.training import sample
from shared import params, threefry, transformers_io
from shared.config import GPTConfig
from shared.sampling import Sampling, candidates, choose
from shared.tokenizer import Stream, Tokenizer
from twingrad import numerics

ROOT = Path(__file__).parents[2]
CONFIG = GPTConfig(
    vocab_size=97, context_length=24, emb_dim=40, n_heads=5, n_layers=2, qkv_bias=True
)
BARE = replace(CONFIG, qkv_bias=False, tie_embeddings=False)
PROMPTS = [[5], [17, 3, 88, 3], [96, 0, 41, 2, 60, 33, 7]]
NEW = 16
GREEDY = Sampling(temperature=0.0)

each_config = pytest.mark.parametrize(
    "config", [CONFIG, BARE], ids=["tied, with biases", "untied, without"]
)


@functools.cache
def _program(config=CONFIG):
    """A model that does not say the same token again and again: positions count for much."""
    start = {}
    for name, shape in params.gpt2_shapes(config).items():
        drawn = np.random.default_rng([len(start), 7]).standard_normal(shape)
        drawn *= 1.0 if name.startswith("wpe") else 0.3
        start[name] = drawn + (".ln_" in f".{name}" and name.endswith("weight"))
    return programs.gpt2(config=config, start=start, steps=1)


@pytest.fixture
def model(build, device):
    """A side's model and runtime."""

    def make(framework, dtype="float64", config=CONFIG):
        return build(framework, _program(config), dtype, device)

    return make


@pytest.fixture
def texts(model):
    """Texts [B, new tokens] of a side."""

    def say(framework, prompts, asked, new_tokens=NEW, dtype="float64", config=CONFIG):
        made, runtime = model(framework, dtype, config)
        return _texts(framework, made, prompts, asked, runtime, new_tokens)

    return say


def _texts(framework, model, prompts, asked, runtime, new_tokens=NEW):
    steps = framework.generate.generate(model, prompts, new_tokens, asked, runtime)
    return np.stack(list(steps), axis=1)


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


def _forward(framework, model, runtime):
    """The whole forward pass over tokens filled up to the context length, compiled once."""
    if framework.name == "jax":
        import jax
        from flax import nnx

        graphdef, state = nnx.split(model)
        compiled = jax.jit(lambda state, tokens: nnx.merge(graphdef, state)(tokens))
        call = functools.partial(compiled, state)
    else:
        call = model

    def forward(tokens):
        padded = np.zeros((len(tokens), model.wpe.num_embeddings), np.int64)
        padded[:, : len(tokens[0])] = tokens
        return framework.params.to_numpy(call(*runtime.batch(padded)))

    return forward


def _assert_close(ours, exact, relative=numerics.FLOAT64_RELATIVE, what=""):
    apart, scale = numerics.distance(ours, exact), numerics.size(exact)
    assert apart.l2 <= relative * scale.l2, what
    assert apart.peak <= relative * scale.peak, what


# The cache


@each_config
def test_logits_with_the_cache_are_those_without_it_at_every_position(framework, model, config):
    made, runtime = model(framework, config=config)
    tokens = np.random.default_rng(3).integers(config.vocab_size, size=(2, config.context_length))
    exact = _forward(framework, made, runtime)(tokens)  # (B, T, V)
    decode = _decoder(framework, made, runtime)
    for position in range(config.context_length):
        at = np.full((2, 1), position)
        logits = decode(tokens[:, position, None], at, [0, 0], fresh=position == 0)
        _assert_close(logits, exact[:, position], what=f"position {position}, one by one")
    every = np.tile(np.arange(config.context_length), (2, 1))
    for position in range(config.context_length):
        logits = decode(tokens, every, [position] * 2, fresh=True)
        _assert_close(logits, exact[:, position], what=f"position {position}, all at once")


def test_a_prompt_in_pieces_is_the_prompt(framework, model):
    made, runtime = model(framework)
    tokens = np.random.default_rng(4).integers(CONFIG.vocab_size, size=(1, 12))
    exact = _forward(framework, made, runtime)(tokens)
    decode = _decoder(framework, made, runtime)
    for start, end in itertools.pairwise((0, 5, 8, 12)):
        at = np.arange(start, end)[None]
        logits = decode(tokens[:, start:end], at, [end - start - 1], fresh=start == 0)
        _assert_close(logits, exact[:, end - 1], what=f"up to {end}")


def test_greedy_texts_are_those_without_the_cache(framework, model):
    made, runtime = model(framework)
    forward = _forward(framework, made, runtime)
    for prompt, text in zip(
        PROMPTS, _texts(framework, made, PROMPTS, GREEDY, runtime), strict=True
    ):
        said = list(prompt)
        for token in text:
            assert forward([said])[0, len(said) - 1].argmax() == token, said
            said.append(token)


def test_prompts_of_different_lengths_are_each_gone_on_from_as_if_alone(framework, model):
    made, runtime = model(framework)
    together = _texts(framework, made, PROMPTS, GREEDY, runtime)
    for prompt, text in zip(PROMPTS, together, strict=True):
        assert np.array_equal(_texts(framework, made, [prompt], GREEDY, runtime)[0], text), prompt


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
    _texts(framework, made, PROMPTS, GREEDY, runtime)
    assert len(seen) == NEW
    assert len(set(seen[0])) == 2 * CONFIG.n_layers
    for step, addresses in enumerate(seen):
        assert addresses == seen[0], f"step {step}"


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
        ours = _texts(framework, made, PROMPTS, asked, runtime)
        assert (_texts(framework, copy, PROMPTS, asked, runtime) == ours).all()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_only_float32_changes_its_layout(frameworks, model, dtype):
    made = model(frameworks[0], dtype)[0]
    for ours, theirs in zip(
        frameworks[0].generate.decode_layout(made).parameters(), made.parameters(), strict=True
    ):
        assert ours is theirs


@pytest.mark.filterwarnings("default")  # some of the compiler's own
def test_a_compiled_model_takes_the_decode_layout(frameworks, model):
    made, runtime = model(frameworks[0], "float32")
    plain = _texts(frameworks[0], made, PROMPTS, GREEDY, runtime)
    for block in made.h:
        block.compile()
    assert (
        _texts(frameworks[0], frameworks[0].generate.decode_layout(made), PROMPTS, GREEDY, runtime)
        == plain
    ).all()


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


def test_bfloat16_logits_are_within_the_ceiling_of_those_without_the_cache(framework, model):
    made, runtime = model(framework, "bfloat16")
    tokens = np.random.default_rng(5).integers(CONFIG.vocab_size, size=(2, 20))
    rounded = _forward(framework, made, runtime)(tokens)
    decode = _decoder(framework, made, runtime)
    relative = numerics.CEILING_U["bfloat16"] * numerics.UNIT_ROUNDOFF["bfloat16"]
    for position in range(20):
        at = np.full((2, 1), position)
        logits = decode(tokens[:, position, None], at, [0, 0], fresh=position == 0)
        _assert_close(logits, rounded[:, position], relative, f"position {position}")


# Both sides, and a third opinion


@each_config
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_greedy_texts_are_the_same_on_both_sides_and_in_transformers(
    frameworks, texts, tmp_path, config, dtype
):
    torch = pytest.importorskip("torch", reason="the oracle runs in PyTorch")
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers' GPT-2")
    said = [
        texts(framework, PROMPTS, GREEDY, dtype=dtype, config=config) for framework in frameworks
    ]
    assert np.array_equal(*said)
    assert min(len(set(text)) for text in said[0].tolist()) > 4  # or it says nothing
    transformers_io.save(tmp_path, config, _program(config).params)
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
                _texts(framework, made, PROMPTS, Sampling(seed=seed, **asked), runtime)
                for seed in range(8)
            ]
        )
    for seed, (torch, jax) in enumerate(zip(*said, strict=True)):
        assert np.array_equal(torch, jax), f"seed {seed}"
    assert len({text.tobytes() for text in said[0]}) == 8


def test_the_text_of_a_seed_does_not_depend_on_how_much_is_asked_for(framework, texts):
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


# The draw


def _assert_drawn_from(chosen, probabilities):
    """Pearson's chi-square, five standard deviations allowed; nothing that is impossible."""
    seen = np.bincount(chosen, minlength=len(probabilities))
    assert not seen[probabilities == 0].any()
    expected = len(chosen) * probabilities
    expected, seen = expected[expected > 5], seen[expected > 5]
    chi_square, freedom = np.sum((seen - expected) ** 2 / expected), len(seen) - 1
    assert freedom > 5
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def _softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def test_first_tokens_are_drawn_from_the_softmax(framework, model):
    made, runtime = model(framework)
    prompt = PROMPTS[1]
    logits = _forward(framework, made, runtime)([prompt])[0, len(prompt) - 1]
    chosen = _texts(framework, made, [prompt] * 4000, Sampling(temperature=3.0), runtime, 1)[:, 0]
    _assert_drawn_from(chosen, _softmax(logits / 3.0))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("limits", "kept"), [({}, 40), ({"top_k": 12}, 12), ({"top_p": 0.75}, 19)], ids=str
)
def test_draws_at_each_position_follow_the_softmax_of_the_candidates(seed, limits, kept):
    logits = np.random.default_rng(1).permutation(np.linspace(-1, 1, 40))[None]
    asked = Sampling(temperature=0.8, seed=seed, **limits)
    chosen = [choose(logits, asked.noise(p, logits.shape), asked)[0] for p in range(1000)]
    ids = candidates(logits[0] / 0.8, asked.top_k, asked.top_p)
    assert len(ids) == kept
    probabilities = np.zeros(40)
    probabilities[ids] = _softmax(logits[0, ids] / 0.8)
    _assert_drawn_from(np.array(chosen), probabilities)


def test_noise_is_drawn_anew_at_every_position_and_for_every_seed():
    drawn = [threefry.gumbel(seed, p, (50,)) for seed in range(5) for p in range(5)]
    for one, other in itertools.combinations(drawn, 2):
        assert not np.intersect1d(one, other).size


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (1, None, [1]),  # of two equals the first
        (3, None, [1, 3, 0]),
        (9, None, [1, 3, 0, 2, 4]),
        (None, 0.25, [1]),
        (None, 0.375, [1]),  # reached, not passed
        (None, 0.376, [1, 3]),
        (None, 0.76, [1, 3, 0]),
        (None, 1.0, [1, 3, 0, 2, 4]),
        (2, 0.5, [1]),  # among the two that are left, each is half
        (2, 0.51, [1, 3]),
    ],
)
def test_candidates_are_the_fewest_that_reach_top_p_of_the_top_k_largest(top_k, top_p, kept):
    probabilities = np.array([0.125, 0.375, 0.0625, 0.375, 0.0625])
    assert candidates(np.log(probabilities), top_k, top_p).tolist() == kept


def test_the_lowest_id_wins_a_tie():
    flat = np.zeros((2, 6), np.float32)
    assert choose(flat, None, GREEDY).tolist() == [0, 0]
    assert choose(flat, np.zeros((2, 6)), Sampling(top_k=3)).tolist() == [0, 0]


def test_logits_of_any_size_are_chosen_from():
    wide = np.array([[1e300, -1e300, 0.0]])
    for asked in (GREEDY, Sampling(), Sampling(top_k=2, top_p=0.5), Sampling(temperature=1e-300)):
        assert choose(wide, asked.noise(0, wide.shape), asked).tolist() == [0], asked


# What is refused


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"temperature": -0.5}, "temperature is -0.5: expected 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan: expected 0 or more"),
        ({"temperature": float("inf")}, "temperature is inf: expected 0 or more"),
        ({"top_k": 0}, "top_k is 0: expected 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0: expected a probability over 0"),
        ({"top_p": 1.1}, "top_p is 1.1: expected a probability over 0"),
        ({"top_p": float("nan")}, "top_p is nan: expected a probability over 0"),
        ({"seed": -1}, "seed is -1: expected a whole number"),
    ],
    ids=str,
)
def test_a_draw_that_makes_no_sense_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        Sampling(**asked)


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
        (
            [[1], [1] * 20],
            5,
            "prompt 2 has 20 tokens, and 5 new ones would make 25: shorten either to stay within "
            "the context length, 24",
        ),
    ],
)
def test_prompts_that_the_model_cannot_take_are_refused_at_once(
    framework, model, unchecked, prompts, new_tokens, said
):
    made, runtime = model(framework)
    with pytest.raises(ValueError, match=said):
        framework.generate.generate(made, prompts, new_tokens, GREEDY, runtime)


def test_the_whole_context_can_be_filled(framework, texts):
    room = CONFIG.context_length - len(PROMPTS[2])
    assert texts(framework, PROMPTS, GREEDY, new_tokens=room).shape == (3, room)


def test_a_model_in_training_mode_is_refused(framework, model):
    made, runtime = model(framework)
    made.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        framework.generate.generate(made, PROMPTS, 1, GREEDY, runtime)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(wrong):
    logits = np.array([[0.0, wrong]])
    for asked in (GREEDY, Sampling()):
        with pytest.raises(ValueError, match="the logits hold NaN or infinity"):
            choose(logits, asked.noise(0, logits.shape), asked)


# The command


class Letters(Tokenizer):
    """An id for each letter, and the two bytes of one that has two."""

    def __init__(self, vocab_size=CONFIG.vocab_size):
        self.pieces = [bytes([32 + i]) for i in range(vocab_size - 2)] + [b"\xc3", b"\xa9"]

    def _encode(self, text):
        return [letter - 32 for letter in text.encode()]

    def to_json(self):
        return {}


def _run(framework, device, *, vocab_size=CONFIG.vocab_size, config=CONFIG, sampling=None, **asked):
    asked |= asdict(sampling or Sampling())
    options = sample.SampleOptions(framework=framework.name, device=device, **asked)
    return sample.write(options, config, _program(config).params, Letters(vocab_size))


@each_config
def test_one_text_is_printed_as_it_grows(framework, texts, device, capsys, config):
    asked = Sampling(seed=2, top_k=30)
    said = texts(framework, [[40, 41]], asked, new_tokens=5, config=config)
    call = {"prompt": ("HI",), "tokens": 5, "sampling": asked, "config": config}
    assert _run(framework, device, dtype="float64", **call) == 0
    out, err = capsys.readouterr()
    assert out == "HI" + Letters().decode(said[0]) + "\n"
    assert "tokens/s" in err


def test_what_is_there_is_printed_before_the_next_token_is_asked_for(capsys):
    printed = []

    def steps():
        for token in (33, 95, 96, 95):
            printed.append(capsys.readouterr().out)
            yield np.array([token])

    sample._print_growing("go", steps(), Stream(Letters()))
    assert [*printed, capsys.readouterr().out] == ["go", "A", "", "é", "\ufffd\n"]


def test_several_texts_are_printed_whole(framework, texts, device, capsys):
    said = texts(framework, [[40, 41], [33]], GREEDY, new_tokens=5)
    _run(framework, device, prompt=("HI", "A"), tokens=5, sampling=GREEDY, dtype="float64")
    first, second = (Letters().decode(text) for text in said)
    assert capsys.readouterr().out == f"HI{first}\n\nA{second}\n"


@each_config
def test_tokens_that_no_text_has_are_never_said(framework, device, capsys, config):
    asked = Sampling(temperature=50.0)
    call = {"prompt": ("A",) * 20, "tokens": 4, "sampling": asked, "config": config}
    _run(framework, device, vocab_size=40, dtype="float64", **call)
    assert set(capsys.readouterr().out) <= {"\n", "é", "\ufffd", *Letters(40).decode(range(38))}


def test_sample_decodes_with_a_model_in_decode_layout(framework, device, monkeypatch):
    given, used = [], []

    def lay(model, lay=framework.generate.decode_layout):
        given.append(lay(model))
        return given[0]

    def say(model, *rest, say=framework.generate.generate):
        used.append(model)
        return say(model, *rest)

    monkeypatch.setattr(framework.generate, "decode_layout", lay)
    monkeypatch.setattr(framework.generate, "generate", say)
    _run(framework, device, prompt=("A",), tokens=2)
    assert len(given) == len(used) == 1
    assert used[0] is given[0]


def test_the_pace_leaves_out_what_is_compiled():
    assert str(sample.Pace(2, [1.0])) == "2 tokens in 1.00 s"
    said = str(sample.Pace(2, [1.0, 2.0, 2.5, 3.0]))
    assert said == "8 tokens in 3.00 s; 4.0 tokens/s after the first 4"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": ("A", "")}, "the prompt is empty: give --prompt a text"),
        ({"prompt": ("A",), "vocab_size": 98}, "the tokenizer has 98 tokens and the model 97"),
        ({"prompt": ("A",), "tokens": 24}, "prompt 1 has 1 tokens, and 24 new ones"),
        ({"prompt": ("A",), "dtype": "tf32"}, "dtype tf32 needs a cuda device"),
    ],
    ids=str,
)
def test_a_call_that_makes_no_sense_is_refused(framework, capsys, asked, said):
    with pytest.raises(ValueError, match=said):
        _run(framework, "cpu", **{"tokens": 2, **asked})
    assert capsys.readouterr().out == ""


def test_sampling_loads_the_one_framework_that_was_asked_for(framework):
    others = {"torch": ("jax", "flax"), "jax": ("torch",)}[framework.name]
    code = f"""
import sys
from tests.twins.test_generate import _run
from bench.harness import frameworks
_run(frameworks.one({framework.name!r}), "cpu", prompt=("A",), tokens=3)
loaded = [name for name in {others} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A")
