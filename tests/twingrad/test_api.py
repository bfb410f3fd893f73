"""The functions in Python: with one framework missing, with live models, with the guide's pair."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import twingrad
from bench.harness import frameworks

ROOT = Path(__file__).parents[2]
both_frameworks = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a pair needs both frameworks"
)
WITH_ONE = """
import sys

for name in {missing}:
    sys.modules[name] = None  # as Python has it where an import fails

from twingrad import *
import twingrad
from bench.cli.main import main

for call in (compare, diagnose, assert_equal):
    try:
        call("a_pair.py")
    except ValueError as error:
        print(error)
assert twingrad.Findings().ok
for words in (["diagnose"], ["diagnose", "sigmoid-bce"], ["diagnose", "p.py"], ["compare", "p.py"]):
    print(main(words))
assert not {present} & {{*sys.modules}}, "a framework is loaded before its fellow is looked for"
"""


@pytest.mark.parametrize(
    ("name", "missing"), [("torch", ["torch"]), ("jax", ["jax", "jaxlib", "flax", "ml_dtypes"])]
)
def test_a_missing_framework_is_a_sentence_from_every_function(name, missing):
    present = {"torch", "jax"} - {name}
    code = WITH_ONE.format(missing=missing, present=present)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, errors = done.stdout.splitlines(), done.stderr.splitlines()
    assert said[3:] == ["2"] * 4
    assert len(errors) == 4
    for sentence in [*said[:3], *errors]:
        assert f"{name} is not installed" in sentence
        assert "pip install" in sentence


@both_frameworks
def test_live_models_are_compared_and_stay_as_they_are():
    import torch
    from flax import nnx

    net, port = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = np.asarray(port.kernel[...])
    pair = twingrad.Pair(torch=net, jax=port, batch=[np.ones((4, 3))])
    result = twingrad.compare(pair)
    assert result.ok, result.table()
    assert result.findings.ok
    assert [outcome.dtype for outcome in result] == ["float64", "float32"]
    assert net.weight.dtype == torch.float32
    np.testing.assert_array_equal(np.asarray(port.kernel[...]), before)


@both_frameworks
def test_a_comparison_that_fails_has_the_cause_and_a_claim_raises_it():
    import torch

    def function(params, x):
        return jax_relu(x @ params["kernel"] + 2 * params["bias"])

    def jax_relu(x):
        import jax

        return jax.nn.relu(x)

    def make():
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())

    params = {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}
    pair = twingrad.Pair(torch=make, jax=(function, params), batch=[np.ones((4, 3))], name="mine")
    with pytest.raises(twingrad.NotEqual, match="forward of model") as raised:
        twingrad.assert_equal(pair)
    result = raised.value.comparison
    assert not result.ok
    assert result.findings[0].where == "model"
    assert "<b" in result._repr_html_()


def _guide() -> twingrad.Pair:
    """The pair that docs/porting.md begins with."""
    text = (ROOT / "docs" / "porting.md").read_text()
    start = text.index("```python\nimport flax")
    names: dict[str, object] = {}
    exec(text[start:].split("```")[1].removeprefix("python\n"), names)
    pair = names["pair"]
    assert isinstance(pair, twingrad.Pair)
    return pair


@both_frameworks
def test_of_the_guides_pair_every_cause_is_a_true_one():
    findings = twingrad.diagnose(_guide(), every=True)
    causes = [finding.cause for finding in findings if finding.cause]
    assert "GELU by tanh" in causes[0]  # the larger difference
    assert any("epsilon 1e-06" in cause for cause in causes)
    assert all("GELU by tanh" in cause or "epsilon 1e-06" in cause for cause in causes)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"torch": 3}, "torch is 3: expected a model"), ({"jax": (3, {})}, "expected a model"),
     ({"torch_loss": len}, "give both, or neither"), ({"jax_loss": 3}, "expected a function"),
     ({"torch_optimizer": 3}, "expected a function of parameters"),
     ({"jax_optimizer": 3}, "jax_optimizer is 3: expected optax's")],
)  # fmt: skip
def test_a_pair_of_another_kind_is_refused(given, words):
    right = {"torch": len, "jax": len, "batch": [np.ones(3)]}
    with pytest.raises(ValueError, match=words):
        twingrad.Pair(**right | given)
