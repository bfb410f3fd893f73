"""Pairs whose code cannot run in float64, judged in their own precision alone."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from flax import nnx
from torch import nn

import twingrad
from tests.helpers import hard_coded
from twingrad import numerics
from twingrad.cli.main import main
from twingrad.diagnosis.hypotheses.context import rounded
from twingrad.environment import environment
from twingrad.numerics import Gaps, Size
from twingrad.outcome import outcome_object, outcomes
from twingrad.page import comparison_page
from twingrad.rounded import APART, OTHER_APART

CAUSES = {
    "epsilon": ("norm", "normalised with epsilon 1e-05, JAX's normalised with epsilon 1e-06"),
    "gelu": ("model", "GELU by erf of up, JAX's GELU by tanh of up"),
    "mask": ("model", "attention with a mask that lets one future position through"),
}


def gates(compared):
    return {gate.name: gate.ok for gate in compared.outcomes[0].gates}


@pytest.mark.slow("bfloat16*")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_right_pair_is_judged_by_pytorchs_float64_pass(precision):
    compared = twingrad.compare(hard_coded.pair(precision=precision))
    assert gates(compared) == {precision: True, "other inputs": True}
    assert compared.notes == []
    (outcome,) = compared.outcomes
    assert (outcome.dtype, outcome.basis.has_oracle) == (precision, True)
    assert f"Judged in {precision} alone, each side against PyTorch's" in compared.table()
    page = comparison_page(compared.outcomes, environment("cpu", {}))
    for shown in (compared._repr_html_(), page):
        assert f"Judged in {precision} alone, each side against PyTorch" in shown
    written = outcome_object(outcome)
    assert written["basis"] == {"precision": precision, "oracle": "torch float64", "reason": None}
    assert outcomes({"programs": [written]})[0].ok


@pytest.mark.slow("bfloat16*")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_an_oracle_the_two_sides_are_judged_by_one_another(precision):
    compared = twingrad.compare(hard_coded.pair(precision=precision, both=True))
    assert gates(compared) == {APART: True, OTHER_APART: True}
    basis = compared.outcomes[0].basis
    assert not basis.has_oracle
    assert "PyTorch's block has no kernel for torch.float64" in basis.reason
    assert "the two sides against one another: PyTorch's side does not run" in basis.sentence
    assert outcome_object(compared.outcomes[0])["basis"]["oracle"] is None


@pytest.mark.slow("gelu*", "mask*", "epsilon-oracle")
@pytest.mark.parametrize("both", [False, True], ids=["oracle", "none"])
@pytest.mark.parametrize("bug", hard_coded.BUGS)
def test_a_bug_well_above_rounding_is_found_with_its_cause(bug, both):
    found = twingrad.diagnose(hard_coded.pair(bug, both=both))
    where, words = CAUSES[bug]
    assert (found[0].where, found[0].dtype) == (where, "float32")
    assert words in found[0].cause
    assert found.basis.has_oracle != both


@pytest.mark.slow
def test_bfloat16_finds_what_is_larger_than_its_rounding():
    (finding,) = twingrad.diagnose(hard_coded.pair("mask", "bfloat16"))
    assert CAUSES["mask"][1] in finding.cause
    assert not twingrad.compare(hard_coded.pair("mask", "bfloat16"), causes=False).ok


@pytest.mark.slow
def test_a_pair_that_cannot_run_in_float64_is_told_of_the_option():
    with pytest.raises(ValueError, match="--precision float32, judges it there") as raised:
        twingrad.compare(hard_coded.pair(precision="float64"))
    assert "no kernel for float64" in str(raised.value)
    assert raised.value.frames


def test_a_pair_that_cannot_run_at_all_is_not():
    def broken(model, x, y):
        raise RuntimeError("never")

    pair = replace(hard_coded.pair(precision="float64"), jax_loss=broken)
    with pytest.raises(ValueError, match="never") as raised:
        twingrad.compare(pair)
    assert "precision" not in str(raised.value)


class Scaled(nnx.Module):
    def __init__(self, scale):
        self.scale, self.fc = scale, nnx.Linear(4, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        hard_coded.refuse(x.dtype, "JAX")
        return self.fc(x) * self.scale


def test_updates_are_judged_in_float64_all_the_same():
    import optax
    import torch

    def pair(rate, precision="float32"):
        return twingrad.Pair(
            torch=nn.ModuleDict({"fc": nn.Linear(4, 3)}),
            jax=Scaled(1.0),
            torch_loss=lambda model, x: (model["fc"](x) ** 2).mean(),
            jax_loss=lambda model, x: (model(x) ** 2).mean(),
            batch=[np.random.default_rng(0).normal(size=(8, 4))],
            torch_optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
            jax_optimizer=optax.adam(rate),
            precision=precision,
        )

    assert twingrad.diagnose(pair(1e-2)).ok
    (finding,) = twingrad.diagnose(pair(1.01e-2))
    assert (finding.stage, finding.dtype) == ("update", "float64")
    assert "lr" in finding.cause or "rate" in finding.cause
    (finding,) = twingrad.diagnose(pair(1.01e-2, "bfloat16"))
    assert finding.stage == "update"


FILE = inspect.getsource(hard_coded) + "\n\npair = pair('epsilon', precision='float64')\n"


def test_the_commands_take_the_precision_and_write_the_basis(tmp_path, capsys):
    file, out = tmp_path / "hard.py", tmp_path / "out.json"
    file.write_text(FILE)
    call = [str(file), "--precision", "float32", "--json", str(out)]
    assert main(["diagnose", *call]) == 1
    assert "Judged in float32 alone" in capsys.readouterr().out
    assert json.loads(out.read_text())["basis"]["oracle"] == "torch float64"
    assert main(["compare", *call]) == 1
    printed = capsys.readouterr().out.replace("\n", " ")
    assert f"twingrad diagnose {file} --precision float32" in printed
    (program,) = json.loads(out.read_text())["programs"]
    assert program["basis"]["precision"] == "float32"


def test_a_wrong_precision_is_refused_in_a_sentence(tmp_path, capsys):
    with pytest.raises(ValueError, match="judged in float64, float32, bfloat16"):
        hard_coded.pair(precision="float16")
    with pytest.raises(ValueError, match="judged in float32 alone"):
        twingrad.compare(hard_coded.pair(), dtypes=["float64"])
    file = tmp_path / "hard.py"
    file.write_text(FILE)
    assert main(["compare", str(file), "--precision", "half"]) == 2
    assert "precision 'half'" in capsys.readouterr().err
    assert main(["compare", str(file), "--precision", "float32", "--dtype", "float64"]) == 2
    assert "judged in float32 alone" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compare", "diagnose"])
def test_a_built_in_program_has_no_other_precision(command, capsys):
    from bench.cli.main import main as front_door

    assert front_door([command, "gpt2", "--precision", "float32"]) == 2
    assert "--precision is for a pair file" in capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 64), ("bfloat16", 16)])
def test_two_rounded_results_are_judged_by_the_limit_of_a_module(dtype, limit):
    u = numerics.UNIT_ROUNDOFF[dtype]
    for units, ok in ((limit * 0.99, True), (limit * 1.01, False)):
        gap = Size(units * u, units * u)
        zero = Size(0.0, 0.0)
        verdict = numerics.judge_mutual("x", "loss", Gaps(zero, zero, gap), Size(1, 1), dtype)
        assert (verdict.ok, verdict.limit_u) == (ok, limit)


def test_bfloat16_is_float32_in_numpy_and_keeps_its_numbers():
    import jax.numpy as jnp
    import torch

    from twingrad.torch_arrays import array

    x = np.linspace(-3, 3, 7)
    own, other = array(torch.tensor(x).bfloat16()), numerics.plain(jnp.asarray(x, jnp.bfloat16))
    assert own.dtype == other.dtype == np.float32
    assert np.array_equal(own, other)
    assert np.array_equal(own, rounded(x, "bfloat16"))
