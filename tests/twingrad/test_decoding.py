"""Decoding with a cache: right pairs hold, wrong ones are located, causes are those replayed."""

import inspect
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen
from rich.console import Console

import twingrad
from tests.helpers import decoders
from twingrad.arithmetic import arithmetic
from twingrad.cli.main import main
from twingrad.decoding import check
from twingrad.decoding.rotation import turn, turned
from twingrad.decoding.runs import Decoding
from twingrad.live import LivePair

STEP = "step 1, position 3"
# (rotary, bug, where its step first parts, words of its cause)
WRONG = {
    "position": (False, "position", STEP, "the position is off by +1 in the cached step: wpe is"),
    "rotary": (True, "position", STEP, "the rotary position is off in the cached step: it turns "
               "queries and keys as at position 4, at position 3"),
    "lost": (False, "lost", "step 2, position 4",
             "the cache is not updated: the step at position 3 leaves index 3 empty"),
    "index": (True, "index", STEP, "writes its keys and values to index 2 of the cache, not 3"),
    "mask": (False, "mask", STEP, "the mask lets a step at position 3 see empty slots"),
    "later": (True, "later", "prefill of 3, position 0",
              "the mask lets position 0 see later ones: of a prompt that ends there"),
    "prompt lost": (False, "prompt lost", STEP,
                    "the cache is not updated: the prefill leaves index 0 empty"),
}  # fmt: skip
TITLES = {"torch_bug": "PyTorch", "jax_bug": "JAX"}


def decoded(pair, dtype="float64"):
    with arithmetic(dtype):
        decoding = Decoding.of(LivePair.build(pair, dtype, lift=dtype == "float64"))
        return decoding, list(check.findings(decoding))


@pytest.mark.slow("False")
@pytest.mark.parametrize("rotary", [False, True])
def test_a_right_pair_decodes_as_its_forward_passes_say(rotary):
    decoding, found = decoded(decoders.pair(rotary))
    assert found == []
    assert all(verdict.ok for verdict in decoding.verdicts)
    names = [verdict.name for verdict in decoding.verdicts]
    assert names[:3] == ["forward", "prefill of 3", STEP]
    assert names[-1] == "step 6 from an empty cache, position 5"
    assert np.abs(decoding.sides["jax"].forward).max() > 0.1


@pytest.mark.slow("[!p]*-jax_bug", "prompt*", "position-torch_bug")
@pytest.mark.parametrize("side", TITLES)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_located_and_its_cause_named(name, side):
    rotary, bug, where, words = WRONG[name]
    decoding, (finding,) = decoded(decoders.pair(rotary, **{side: bug}))
    assert finding.stage == "decoding"
    assert finding.where == f"{where} ({TITLES[side]})"
    assert words in finding.cause
    assert finding.size > 1e6
    position = int(where[-1])
    assert f"the first that differs is [0, {position}, 0]" in finding.evidence
    assert not all(verdict.ok for verdict in decoding.verdicts)


@pytest.mark.slow
def test_the_same_mistake_on_both_sides_is_one_finding_of_both():
    decoding, (finding,) = decoded(decoders.pair(torch_bug="mask", jax_bug="mask"))
    assert finding.where == f"{STEP} (PyTorch and JAX)"
    assert finding.cause.startswith("in both: the mask lets a step")
    step = next(v for v in decoding.verdicts if v.name == STEP)
    assert step.mutual_error_u < 100 < step.torch_error_u


def test_sides_that_part_at_two_positions_of_one_call_are_two_findings():
    def wrong(model, tokens, cache, position):
        logits, cache = model.step(tokens, cache, position)
        factors = np.ones((tokens.shape[1], 1))
        if len(factors) > 1:  # the prompt: in PyTorch at every position, in JAX but for the first
            factors[int(isinstance(logits, jax.Array)) :] += 1e-6
        as_its_own = jnp if isinstance(logits, jax.Array) else torch
        return logits * as_its_own.asarray(factors), cache

    functions = replace(decoders.DECODE, step=wrong)
    _, found = decoded(decoders.pair(torch_decode=functions, jax_decode=functions))
    assert [finding.where for finding in found] == [
        "prefill of 3, position 0 (PyTorch)",
        "prefill of 3, position 1 (JAX)",
    ]


@pytest.mark.slow
def test_a_mistake_that_no_replay_explains_has_no_cause():
    def louder(model, tokens, cache, position):
        logits, cache = model.step(tokens, cache, position)
        return logits * (1 + 1e-9 * (position > 3)), cache

    wrong = replace(decoders.DECODE, step=louder)
    _, (finding,) = decoded(decoders.pair(jax_decode=wrong))
    assert (finding.where, finding.cause) == ("step 2, position 4 (JAX)", None)
    assert "1e-09 from its own forward pass" in finding.evidence


def test_forward_passes_that_differ_are_found_where_each_side_keeps_to_its_own():
    def shifted(model, tokens, cache, position):
        logits, cache = model.step(tokens, cache, position)
        return logits + 1, cache

    wrong = replace(decoders.DECODE, step=shifted, forward=lambda model, tokens: model(tokens) + 1)
    _, (finding,) = decoded(decoders.pair(jax_decode=wrong))
    assert finding.where == "forward pass, position 0 (PyTorch and JAX)"
    assert "from the other side's" in finding.evidence


def test_logits_of_the_last_token_alone_are_enough():
    def last(model, tokens, cache, position):
        logits, cache = model.step(tokens, cache, position)
        return logits[:, -1], cache

    decode = replace(decoders.DECODE, step=last)
    decoding, found = decoded(decoders.pair(jax_decode=decode))
    assert found == []
    assert decoding.sides["jax"].stretches[0].logits.shape == (2, 1, decoders.V)
    _, (finding,) = decoded(decoders.pair(torch_bug="mask", torch_decode=decode))
    assert finding.where == f"{STEP} (PyTorch)"


def test_a_cache_that_the_model_keeps_itself_is_empty_for_every_run():
    def cache(model, rows, length):
        model.kept = model.new_cache(rows, length)

    def step(model, tokens, cache, position):
        logits, model.kept = model.step(tokens, model.kept, position)
        return logits, None

    decode = twingrad.Decode(cache=cache, step=step)
    assert decoded(decoders.pair(torch_decode=decode))[1] == []
    _, (finding,) = decoded(decoders.pair(torch_bug="index", torch_decode=decode))
    assert (finding.where, finding.cause) == (f"{STEP} (PyTorch)", None)


@pytest.mark.slow
def test_float32_keeps_its_own_limit():
    decoding, found = decoded(decoders.pair(), "float32")
    assert found == []
    assert decoding.verdicts[1].limit_u == 128
    assert len(decoded(decoders.pair(jax_bug="mask"), "float32")[1]) == 1


@pytest.mark.slow
def test_compare_and_diagnose_hold_it_in_the_api():
    compared = twingrad.compare(decoders.pair(jax_bug="lost"))
    assert not compared.ok
    (gate,) = [gate for gate in compared.outcomes[0].gates if not gate.ok]
    assert gate.name == "decoding"
    assert "step 2, position 4 (JAX)" in compared.table()
    (finding,) = compared.findings
    assert finding.stage == "decoding"


PAIR_FILE = inspect.getsource(decoders) + "\n\npair = pair(torch_bug='lost')\n"


@pytest.mark.slow
def test_the_commands_print_it_and_write_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    file, out = tmp_path / "wrong.py", tmp_path / "out.json"
    file.write_text(PAIR_FILE)
    assert main(["diagnose", str(file), "--json", str(out)]) == 1
    assert "decoding" in capsys.readouterr().out
    (finding,) = json.loads(out.read_text())["findings"]
    assert finding.keys() == {"stage", "where", "cause", "evidence", "size"}
    assert (finding["stage"], finding["where"]) == ("decoding", "step 2, position 4 (PyTorch)")
    assert main(["compare", str(file), "--json", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "logits with a cache, each side against its own forward pass" in printed
    (program,) = json.loads(out.read_text())["programs"]
    assert [gate["gate"] for gate in program["gates"]] == ["float64", "second batch", "decoding"]
    assert program["gates"][2]["tensors"][0]["kind"] == "logits"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": np.zeros((2, 2), np.int64)}, "3 tokens or more"),
        ({"tokens": np.zeros((2, 5))}, "decodes integers"),
        ({"batch": [np.ones((2, 4))]}, "give tokens"),
    ],
)
def test_what_cannot_be_decoded_is_refused(changes, words):
    from twingrad.decoding.runs import tokens_of

    with pytest.raises(ValueError, match=words):
        tokens_of(replace(decoders.pair(), **changes))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda model, tokens, cache, position: model(tokens), "tuple of logits and the cache"),
        (lambda model, tokens, cache, position: (model(tokens)[0, 0], cache), "shape"),
    ],
)
def test_a_step_of_another_form_is_refused_in_a_sentence(step, words):
    with pytest.raises(ValueError, match=words):
        decoded(decoders.pair(torch_decode=replace(decoders.DECODE, step=step)))


def test_the_functions_of_a_side_are_checked():
    with pytest.raises(ValueError, match="cache of Decode is 3"):
        twingrad.Decode(cache=3, step=print)
    with pytest.raises(ValueError, match="give both, or neither"):
        decoders.pair(jax_decode=None)
    with pytest.raises(ValueError, match=r"expected twingrad\.Decode"):
        decoders.pair(jax_decode=print)


@pytest.mark.parametrize("neighbours", [False, True])
def test_a_rotation_is_read_from_the_numbers_and_made_again(neighbours):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4))  # (B, H, S, D)
    angles = np.array([1.0, 0.1])
    from twingrad.decoding.rotation import Turn

    y = turn(x, 2, 4, Turn(neighbours=neighbours, angles=angles))
    found = turned(x[:, :, 1], y[:, :, 1])
    assert found.neighbours == neighbours
    np.testing.assert_allclose(found.angles, angles)
    assert np.array_equal(x[:, :, 4], y[:, :, 4])
    assert turned(x[:, :, 4], y[:, :, 4]) is None
    assert turned(x[:, :, 1], y[:, :, 2]) is None


def test_findings_are_printed_as_those_of_other_stages(capsys):
    _, found = decoded(decoders.pair(jax_bug="position"))
    twingrad.Findings(found, "decoder").show(Console(width=120))
    assert "wpe is given 4 at position 3" in capsys.readouterr().out


class Summed(torch.nn.Module):
    """What is added up over positions: its cache is the sum so far, without an axis of time."""

    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(decoders.V, decoders.C)
        self.head = torch.nn.Linear(decoders.C, decoders.V)

    def forward(self, tokens, cache=0.0):
        x = self.wte(tokens).cumsum(1) + cache
        return self.head(torch.tanh(x)), x[:, -1:]


def summed(params, tokens, cache=0.0):
    x = jnp.cumsum(params["wte"]["w"][tokens], axis=1) + cache
    return jnp.tanh(x) @ params["head"]["w"] + params["head"]["b"], x[:, -1:]


class LinenSummed(linen.Module):
    @linen.compact
    def __call__(self, tokens, cache=0.0):
        x = jnp.cumsum(linen.Embed(decoders.V, decoders.C, name="wte")(tokens), axis=1) + cache
        return linen.Dense(decoders.V, name="head")(jnp.tanh(x)), x[:, -1:]


def function():
    head = {"w": np.zeros((decoders.C, decoders.V)), "b": np.zeros(decoders.V)}
    return summed, {"wte": {"w": np.zeros((decoders.V, decoders.C))}, "head": head}


def linen_module():
    return LinenSummed(), LinenSummed().init(jax.random.key(0), decoders.TOKENS)


@pytest.mark.slow("function")
@pytest.mark.parametrize("make", [function, linen_module])
def test_models_that_are_functions_decode_and_so_do_caches_without_positions(make):
    def step(model, tokens, cache, position):
        return model(tokens, cache)

    def forgetful(model, tokens, cache, position):
        logits, after = model(tokens, cache)
        return logits, cache if position == 4 else after

    def given(jax_step):
        right = twingrad.Decode(
            cache=lambda model, rows, length: torch.zeros(rows, 1, 1), step=step
        )
        empty = twingrad.Decode(cache=lambda model, rows, length: jnp.zeros(()), step=jax_step)
        return twingrad.Pair(
            torch=Summed,
            jax=make,
            torch_loss=lambda model, tokens: (model(tokens)[0] ** 2).mean(),
            jax_loss=lambda model, tokens: (model(tokens)[0] ** 2).mean(),
            batch=[decoders.TOKENS],
            torch_decode=right,
            jax_decode=empty,
        )

    assert decoded(given(step))[1] == []
    _, (finding,) = decoded(given(forgetful))
    assert finding.where == "step 3, position 5 (JAX)"
    left = "the cache is not updated: the step at position 4 leaves it as it was"
    assert finding.cause == left
