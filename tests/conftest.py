"""Fixtures of all tests: devices, installed frameworks, and equality in float64."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest

# Read by the frameworks when they start; nothing of theirs may be imported before.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Threads that wait do not spin: two workers of the tests share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nothing is left in the cache of whoever runs the tests, and no test depends on what is there.
os.environ["TWINGRAD_COMPILE_CACHE"] = "off"

from bench.harness.frameworks import NAMES, Framework, Frameworks, both, installed, one
from bench.harness.programs import Program
from shared.params import Params
from tests.helpers import attacks, caches, failures, garbage, processor_time, selection, verdicts
from twingrad import numerics


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Options and hooks of all tests, a module for each concern."""
    pluginmanager.import_plugin("pytester")
    for plugin in (attacks, caches, failures, garbage, processor_time, selection):
        pluginmanager.register(plugin)


@pytest.fixture(scope="session", params=("cpu", "cuda"))
def device(request: pytest.FixtureRequest) -> str:
    """Every device that all installed frameworks see."""
    names = [name for name in NAMES if installed(name)]
    if not names:
        pytest.skip("neither framework is installed")
    for name in names:
        if request.param not in one(name).runtime.devices():
            pytest.skip(f"{name} sees no {request.param} device here")
    return request.param


@pytest.fixture(scope="session", params=NAMES)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework that is installed, by its half of the project."""
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return one(request.param)


@pytest.fixture(scope="session")
def frameworks() -> Frameworks:
    """Both frameworks, PyTorch first."""
    for name in NAMES:
        if not installed(name):
            pytest.skip(f"{name} is not installed, and this needs both frameworks")
    return both()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Signatures unchecked, as a program runs them: what a user gives wrong then gets through."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def build() -> Callable[..., tuple[Any, Any]]:
    """Makes a program's model in eval mode, and the runtime that it was made for."""

    def make(
        framework: Framework,
        program: Program,
        dtype: str,
        device: str,
        start: Params | None = None,
    ) -> tuple[Any, Any]:
        runtime = framework.runtime.configure(dtype, device)
        given = program.params if start is None else start
        model = framework.params.build(lambda: program.make(framework), given, runtime)
        model.eval()
        return model, runtime

    return make


@pytest.fixture(scope="session")
def assert_same64() -> Callable[..., None]:
    """Holds float64 tensors against their twins by name, by the rule of the float64 gate."""

    def check(ours: Params, theirs: Params, relative: float = numerics.FLOAT64_RELATIVE) -> None:
        assert ours.keys() == theirs.keys()
        judged = []
        for name, scale in numerics.scales(theirs).items():
            assert ours[name].dtype == theirs[name].dtype == "float64", name
            apart = numerics.gaps(ours[name], theirs[name])
            judged.append(numerics.judge_float64(name, "", apart, scale, relative))
        verdicts.assert_equal(judged, "float64")

    return check
