"""Runs that several tests look at, and the data that they are trained on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness.frameworks import NAMES, installed
from tests.helpers.runs import ROOT, SMALL, train

TWENTY = ["--dtype", "float64", "--steps", "20", "--checkpoint-every", "10", "--micro-batches", "2"]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Leave the threads of small operations no others to wait for where the machine is shared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="package")
def text(tmp_path_factory) -> Path:
    """A text file of our own words."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = (ROOT / "README.md").read_text(encoding="utf-8")
    path.write_text(words * 2, encoding="utf-8")
    return path


@pytest.fixture(scope="package")
def one() -> str:
    """A framework that is installed."""
    return next(name for name in NAMES if installed(name))


@pytest.fixture(scope="package")
def both(frameworks, text, tmp_path_factory) -> Path:
    """A run of twenty steps in both frameworks, in float64."""
    out = tmp_path_factory.mktemp("both") / "run"
    options = ("--framework", "both", *TWENTY, *SMALL, "--data", text)
    assert train(*options, "--out", out, "--tensorboard") == 0
    return out


@pytest.fixture(scope="package")
def four_steps(framework, text, tmp_path_factory) -> Path:
    """A run of four steps with a checkpoint at two and at four, and four more to go."""
    out = tmp_path_factory.mktemp("begun") / "run"
    options = (*SMALL, "--framework", framework.name, "--data", text, "--steps", 8)
    assert train(*options, "--checkpoint-every", 2, "--stop-after", 4, "--out", out) == 0
    return out


@pytest.fixture
def begun(four_steps, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(four_steps, tmp_path / "run")
