"""The library installed, by a wheel and editably, in a project with folders of our names."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.harness import frameworks

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)
pytest.importorskip("hatchling", reason="a wheel is built without the network")
pytest.importorskip("editables", reason="an editable install is built without the network")

PROJECT = {
    "torch_impl/net.py": """
        import torch

        def make():
            torch.manual_seed(0)
            return torch.nn.Linear(3, 2)
    """,
    "shared/names.py": """
        NAMES = {}
    """,
    "bench/port.py": """
        from flax import nnx

        def make():
            from config.seed import SEED  # while the pair is looked at, not when its file is read

            return nnx.Linear(3, 2, rngs=nnx.Rngs(SEED))
    """,
    "config/seed.py": """
        SEED = 0
    """,
    "my_pair.py": """
        import numpy as np
        from bench import port
        from shared.names import NAMES
        from torch_impl import net
        from twingrad import Pair

        def loss(model, x, y):
            return ((model(x) - y) ** 2).mean()

        options = dict(torch_loss=loss, jax_loss=loss, names=NAMES)
        options["batch"] = (np.arange(12.0).reshape(4, 3), np.ones((4, 2)))
        pair = Pair(torch=net.make, jax=port.make, **options)
    """,
    "test_port.py": """
        import pytest
        from my_pair import net, options, port
        from twingrad import assert_equal_models

        def test_the_port_is_equal():
            assert_equal_models(net.make, port.make, **options)

        @pytest.mark.pair("my_pair.py")
        def test_the_plugin_comes_with_the_package():
            pass
    """,
}
FOLDERS = ("torch_impl", "shared", "bench", "config")


class Installed(NamedTuple):
    """An environment of its own, whose frameworks are those of the running one."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(
        self, folder: Path, *command: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """The result of ``command``, a script of the environment, run in ``folder``."""
        named = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=folder,
            env=named | {"OMP_WAIT_POLICY": "PASSIVE"} | variables,
            capture_output=True,
            text=True,
        )


def _install(folder: Path, *source: str) -> Installed:
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # A path file's folder is only added: links of its own to this checkout are not followed.
    elsewhere = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "frameworks.pth").write_text("\n".join(elsewhere) + "\n")
    environment = Installed(folder)
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "install", "-q"]
    call = [*pip, "--no-deps", "--no-build-isolation", "--ignore-installed", *source]
    subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
    return environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*call, "-w", folder], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory) -> Installed:
    source = (
        ("-e", ".") if request.param == "editable" else (str(request.getfixturevalue("wheel")),)
    )
    return _install(tmp_path_factory.mktemp(request.param) / "venv", *source)


@pytest.fixture(scope="module")
def from_wheel(wheel, tmp_path_factory) -> Installed:
    return _install(tmp_path_factory.mktemp("strangers") / "venv", str(wheel))


def _write_project(folder: Path, packages: bool) -> None:
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        lines = text.strip("\n").splitlines()
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in lines) + "\n")
    if packages:
        for name in FOLDERS:
            (folder / name / "__init__.py").touch()


def test_the_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"twingrad"}
    assert "twingrad/py.typed" in names


@pytest.mark.parametrize("packages", [True, False], ids=["packages", "plain-folders"])
def test_a_project_with_folders_of_our_names_keeps_them(installed, packages, tmp_path):
    _write_project(tmp_path, packages)
    calls = [
        (
            "python",
            "-m",
            "pytest",
            "-q",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
            "test_port.py",
        ),
        ("twingrad", "compare", "my_pair.py"),
        ("twingrad", "diagnose", "my_pair.py"),
    ]
    with ThreadPoolExecutor(2) as pool:
        for call, done in zip(
            calls, pool.map(lambda call: installed.run(tmp_path, *call), calls), strict=True
        ):
            assert done.returncode == 0, (call, done.stdout, done.stderr)


def test_the_checkout_is_not_importable_from_an_editable_install(installed, tmp_path):
    names = ("bench", "shared", "torch_impl", "jax_impl")
    code = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert installed.run(tmp_path, "python", "-c", code).stdout == "[]\n"


def test_running_in_the_checkout_hides_no_folder_of_a_pair(from_wheel, tmp_path):
    _write_project(tmp_path, packages=False)
    call = ("python", "-m", "bench", "compare", str(tmp_path / "my_pair.py"))
    done = from_wheel.run(ROOT, *call)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_a_new_user_needs_nothing_but_the_wheel(from_wheel, tmp_path):
    assert from_wheel.run(tmp_path, "twingrad", "init-pair", "p.py").returncode == 0
    done = from_wheel.run(tmp_path, "twingrad", "diagnose", "p.py")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "no divergence" in done.stdout


@pytest.mark.parametrize("call", [["compare", "gpt2"], ["compare"], ["train"], ["no-such"]])
def test_the_built_in_programs_come_with_a_checkout(from_wheel, tmp_path, call):
    done = from_wheel.run(tmp_path, "twingrad", *call)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "checkout" in done.stderr
    assert done.stdout == ""


def test_the_help_of_the_library_names_its_commands(from_wheel, tmp_path):
    done = from_wheel.run(tmp_path, "twingrad", "--help")
    assert done.returncode == 0
    for command in ("init-pair", "compare", "diagnose"):
        assert command in done.stdout


def test_versions_doctor_and_completion_need_no_checkout(from_wheel, tmp_path):
    calls = (["--version"], ["completion", "bash"], ["doctor", "--json", "found.json"])
    for call in calls:
        done = from_wheel.run(tmp_path, "twingrad", *call)
        assert done.returncode == 0, (call, done.stdout, done.stderr)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["twingrad"]["checkout"] is None
    names = {package["name"]: package for package in found["packages"]}
    assert {"numpy", "torch", "jax"} <= names.keys()
    assert "grain" not in names, "the workbench's own"
    assert names["torch"]["wanted"].startswith(">=")
