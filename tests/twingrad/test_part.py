"""A part of a pair's models: which modules are looked at, and what is said of the rest."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax.numpy as jnp
import torch
from flax import nnx

import twingrad
from twingrad import Pair
from twingrad.cli.main import main

X = np.random.default_rng(0).normal(size=(3, 4))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)
        self.last = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


class Port(nnx.Module):
    """With another epsilon in the norm, and another function before the last layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fc, self.ln = nnx.Linear(4, 4, rngs=rngs), nnx.LayerNorm(4, epsilon=1e-3, rngs=rngs)
        self.out = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.sin(self.ln(self.fc(x))))


NAMES = {
    "first.weight": "fc.kernel", "first.bias": "fc.bias", "norm.weight": "ln.scale",
    "norm.bias": "ln.bias", "last.weight": "out.kernel", "last.bias": "out.bias",
}  # fmt: skip
PAIR = Pair(torch=Net, jax=Port, batch=[X], names=NAMES)


@pytest.mark.slow("part0-modules0-found0")
@pytest.mark.parametrize(
    ("part", "modules", "found"),
    [
        ({"until": "first"}, ["first"], set()),
        ({"until": "norm"}, ["first", "norm"], {"norm (ln in JAX)"}),
        ({"until": "ln"}, ["first", "norm"], {"norm (ln in JAX)"}),
        # What is computed for the last call belongs to what is computed until its end.
        ({"until": "out"}, ["first", "norm", "last"], {"norm (ln in JAX)", "model"}),
        ({"until": "model"}, ["model", "first", "norm", "last"], {"norm (ln in JAX)", "model"}),
        ({"only": "^(first|out)$"}, ["first", "last"], set()),
        ({"only": "model"}, ["model"], {"model"}),
        ({"only": "^l", "until": "norm"}, ["norm"], {"norm (ln in JAX)"}),
    ],
)
def test_findings_are_those_of_the_part(part, modules, found):
    findings = twingrad.diagnose(PAIR, every=True, **part)
    assert findings.part == {"until": None, "only": None, **part, "modules": modules}
    assert {each.where for each in findings if each.stage == "forward"} == found
    if not found:
        assert findings == []
        assert "nothing is said of the rest" in findings.table()
        assert "nothing is said of the rest" in findings._repr_html_()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"until": "nrm"}, "until 'nrm': no module that both models call has that name; the nea"),
        ({"until": "nrm"}, "norm"),
        ({"only": "frist"}, "only 'frist': found in no name of a module that both models call"),
        ({"only": "frist"}, "nearest are first"),
        ({"only": "("}, "only '(': no regular expression, missing )"),
        ({"only": "out", "until": "norm"}, "until 'norm' and only 'out' have no module in common"),
    ],
)
def test_a_part_that_is_nowhere_is_refused_with_the_nearest_names(part, said):
    with pytest.raises(ValueError, match=r"until|only") as refused:
        twingrad.diagnose(PAIR, **part)
    assert said in str(refused.value)


FILE = """
import numpy as np
import torch
from flax import nnx
from twingrad import Pair

pair = Pair(
    torch=lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()),
    jax=lambda: nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.relu),
    batch=[np.random.default_rng(0).normal(size=(3, 4))],
)
"""


def test_the_command_line_writes_the_part(tmp_path, capsys):
    (tmp_path / "p.py").write_text(FILE)
    words = ["diagnose", str(tmp_path / "p.py"), "--until", "0"]
    assert main([*words, "--json", str(tmp_path / "found.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no divergence in the part that was looked at: 0." in said
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["ok"]
    assert report["part"] == {"until": "0", "only": None, "modules": ["0"]}
    assert main([*words, "--map"]) == 2
    assert "leave out --until" in capsys.readouterr().err
