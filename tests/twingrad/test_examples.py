"""The examples in the docstrings of the public names run."""

import inspect
import textwrap

import numpy as np
import pytest

import twingrad
from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)


def _example(name: str) -> str:
    text = inspect.getdoc(getattr(twingrad, name)) or ""
    return textwrap.dedent(text.partition("Example::\n")[2])


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted: the frameworks, two models, a batch, a pair of them."""
    import torch
    from flax import nnx

    def make_torch():
        return torch.nn.Linear(3, 2)

    def make_jax():
        return nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    x = np.ones((4, 3))
    pair = twingrad.Pair(torch=make_torch, jax=make_jax, batch=[x])
    return {
        "np": np, "torch": torch, "nnx": nnx, "twingrad": twingrad, "Pair": twingrad.Pair, "x": x,
        "pair": pair, "make_torch": make_torch, "make_jax": make_jax,
    }  # fmt: skip


@pytest.mark.parametrize("name", twingrad.__all__)
def test_the_example_runs(name, names, capsys):
    code = _example(name)
    assert code.strip(), f"{name} has no example"
    seen = dict(names)
    exec(compile(code, name, "exec"), seen)
    for claim in (value for key, value in seen.items() if key.startswith("test_")):
        claim()
    if name == "Pair":
        assert twingrad.compare(seen["pair"], causes=False).ok
    assert "not equal" not in capsys.readouterr().out
