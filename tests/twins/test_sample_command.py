"""``twingrad sample``: texts as they are printed."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bench.training import sample
from shared.sampling import Sampling
from shared.tokenizer import Stream
from tests.helpers.decoding import (
    CONFIG,
    GREEDY,
    Letters,
    each_config,
    make_program,
)

ROOT = Path(__file__).parents[2]


def _run(framework, device, *, vocab_size=CONFIG.vocab_size, config=CONFIG, sampling=None, **asked):
    asked |= asdict(sampling or Sampling())
    options = sample.SampleOptions(framework=framework.name, device=device, **asked)
    return sample.write(options, config, make_program(config).params, Letters(vocab_size))


@pytest.mark.slow("jax-cpu*")
@each_config
def test_one_text_is_printed_as_it_grows(framework, texts, device, capsys, config):
    asked = Sampling(seed=2, top_k=30)
    said = texts(framework, [[40, 41]], asked, new_tokens=5, config=config)
    call = {"prompt": ("HI",), "tokens": 5, "sampling": asked, "config": config}
    assert _run(framework, device, dtype="float64", **call) == 0
    out, err = capsys.readouterr()
    assert out == "HI" + Letters().decode(said[0]) + "\n"
    assert "tokens/s" in err


def test_text_is_printed_before_the_next_token(capsys):
    printed = []

    def steps():
        for token in (33, 95, 96, 95):
            printed.append(capsys.readouterr().out)
            yield np.array([token])

    sample._print_growing("go", steps(), Stream(Letters()))
    assert [*printed, capsys.readouterr().out] == ["go", "A", "", "é", "\ufffd\n"]


@pytest.mark.slow("jax-cpu")
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


@pytest.mark.slow("jax-cpu")
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
        ({"prompt": ("A",), "tokens": 0}, "--tokens is 0: expected 1 or more"),
        ({"prompt": ()}, "there is no prompt: give --prompt a text"),
        ({"prompt": ("A",), "dtype": "tf32"}, "dtype tf32 needs a cuda device"),
    ],
    ids=str,
)
def test_a_call_that_makes_no_sense_is_refused(framework, capsys, asked, said):
    with pytest.raises(ValueError, match=said):
        _run(framework, "cpu", **{"tokens": 2, **asked})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "asked", [{"tokens": 0}, {"prompt": ("",)}, {"top_k": 0}, {"dtype": "tf32", "device": "cpu"}]
)
def test_a_wrong_call_is_refused_before_the_model_is_loaded(framework, monkeypatch, asked):
    monkeypatch.setattr(sample.pretrained, "load", lambda *given: pytest.fail("loaded"))
    call = {"framework": framework.name, "checkpoint": "absent", "prompt": ("A",), **asked}
    with pytest.raises(ValueError, match=r"tokens is 0|prompt is empty|top_k is 0|tf32 needs"):
        sample.run(sample.SampleOptions(**call))


@pytest.mark.slow("jax-cpu")
def test_by_default_it_writes_as_many_tokens_as_the_context_has(framework, device, capsys):
    _run(framework, device, prompt=("HI",), dtype="float64")
    assert capsys.readouterr().err.startswith(f"{CONFIG.context_length} tokens in")


@pytest.mark.slow("torch")
def test_sampling_loads_the_one_framework_that_was_asked_for(framework):
    others = {"torch": ("jax", "flax"), "jax": ("torch",)}[framework.name]
    code = f"""
import sys
from tests.twins.test_sample_command import _run
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
