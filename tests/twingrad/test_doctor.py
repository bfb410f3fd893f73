"""Doctor: what it finds wrong, what it says to do, and what its exit status is."""

import json
import sys
from pathlib import Path

import pytest

from twingrad.cli.main import main
from twingrad.doctor import command, installation, probe
from twingrad.doctor.installation import Package
from twingrad.doctor.probe import Answer, Device
from twingrad.doctor.problems import Examined, find
from twingrad.environment import checkout, install_command

CPU = Device(device="cpu", model="", memory_bytes=None, error=None)
GPU = Device(device="cuda:0", model="H100", memory_bytes=80 << 30, error=None)


def examined(**changed) -> Examined:
    facts = {
        "packages": [],
        "answers": {"torch": Answer(devices=[CPU]), "jax": Answer(devices=[CPU])},
        "asked": (),
        "device": "auto",
        "gpus": (),
        "compiler": "/usr/bin/g++ 12",
        "variables": {},
        "checkout": True,
    }
    return Examined(**facts | changed)


TORCH = {"torch": Answer(devices=[CPU])}
HUNG = {"torch": Answer(devices=[CPU]), "jax": Answer(error="no answer", timed_out=True)}
BROKEN = {"torch": Answer(error="OSError: libcudart.so"), "jax": Answer(devices=[CPU])}
ON_GPU = {"torch": Answer(devices=[CPU, GPU]), "jax": Answer(devices=[CPU, GPU])}
LOST = {"torch": Answer(devices=[CPU, GPU | {"error": "no kernel image"}])}


def package(name: str, installed: str | None, wanted: str, purpose: str, fits: bool) -> Package:
    return Package(name, purpose, installed, wanted, fits)


@pytest.mark.parametrize(
    ("facts", "what", "fix", "blocks"),
    [
        ({"answers": {}}, "neither framework", "[torch,jax", True),
        ({"answers": TORCH}, "JAX is not installed", "[jax", False),
        ({"answers": TORCH, "asked": ("torch",)}, "JAX is not installed", "[jax", False),
        ({"answers": TORCH, "asked": ("torch", "jax")}, "JAX is not installed", "[jax", True),
        (
            {"answers": TORCH, "packages": [package("jax", "0.10.2", ">=0.10", "JAX", True)]},
            "JAX is not installed completely (jax is there, flax is not): compare",
            "[jax",
            False,
        ),
        ({"answers": HUNG}, "JAX cannot be used: no answer", "JAX_PLATFORMS=cpu", True),
        ({"answers": HUNG, "asked": ("torch",)}, "JAX cannot be used", "nvidia-smi", False),
        ({"answers": BROKEN}, "PyTorch cannot be used: OSError", "[torch", True),
        ({"answers": LOST}, "cannot compute on cuda:0: no kernel image", "driver", True),
        ({"device": "cuda"}, "PyTorch sees no GPU", "--device cpu", True),
        ({"gpus": ("H100",)}, "does not see the GPU that the driver has", "[cuda", False),
        (
            {"gpus": ("H100",), "device": "cuda", "asked": ("jax",)},
            "JAX does not see the GPU",
            "[cuda",
            True,
        ),
        (
            {"packages": [package("flax", "0.8", ">=0.12", "JAX", False)]},
            "flax is 0.8, outside >=0.12",
            "pip install 'flax>=0.12'",
            True,
        ),
        (
            {"packages": [package("tiktoken", None, ">=0.9", "GPT-2's tokenizer", False)]},
            "tiktoken not installed, for GPT-2's tokenizer",
            "[text",
            False,
        ),
        ({"compiler": None}, "no C++ compiler", "g++", False),
        ({"variables": {"NVIDIA_TF32_OVERRIDE": "1"}}, "overrides the precision", "unset", False),
    ],
)  # fmt: skip
def test_a_problem_comes_with_what_to_do_and_whether_it_blocks(facts, what, fix, blocks):
    problem = next(problem for problem in find(examined(**facts)) if what in problem.what)
    assert fix in problem.fix
    assert problem.blocks == blocks


@pytest.mark.parametrize(
    ("version", "slow"),
    [("0.10.1", False), ("0.10.2", True), ("0.11.0", True), ("0.11.1", False)],
)
def test_a_jaxlib_with_a_slow_scatter_is_named_where_there_is_a_gpu(version, slow):
    packages = [package("jaxlib", version, "any", "JAX", True)]
    found = find(examined(packages=packages, answers=ON_GPU))
    assert [problem.what.split(" computes")[0] for problem in found] == [f"jaxlib {version}"] * slow
    assert find(examined(packages=packages)) == []


def test_an_installation_that_lacks_nothing_has_no_problem():
    assert find(examined()) == []
    assert find(examined(answers=ON_GPU, device="cuda", gpus=("H100",))) == []


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_that_hangs_is_ended_at_the_limit(monkeypatch, tmp_path, name):
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(600)\n")
    monkeypatch.setattr(probe, "__file__", str(slow))
    (answer,) = probe.ask([name], 0.5).values()
    assert answer == {"error": "no answer within 0.5 s", "timed_out": True}


def test_a_framework_that_dies_or_fails_is_told(monkeypatch, tmp_path):
    script = tmp_path / "dies.py"
    script.write_text("import os, sys; print('lib missing', file=sys.stderr); os._exit(7)\n")
    monkeypatch.setattr(probe, "__file__", str(script))
    assert probe.ask(["jax"], 60)["jax"] == {"error": "it ended with status 7: lib missing"}


def test_a_framework_that_cannot_be_imported_is_an_answer(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert probe.main(["torch"]) == 0
    assert "import of torch halted" in json.loads(capsys.readouterr().out)["error"]


def test_doctor_asks_the_frameworks_and_writes_what_it_found(capsys, tmp_path):
    present = [n for n in ("torch", "jax") if installation.installed_versions([n])]
    if not present:
        pytest.skip("neither framework is installed")
    status = main(["doctor", "--framework", present[0], "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (status, found["ok"]) == (0, True)
    assert found["asked"] == {"frameworks": [present[0]], "device": "auto"}
    assert "cpu" in {device["device"] for device in found["frameworks"][present[0]]["devices"]}
    assert found["frameworks"][present[0]]["settings"]
    assert {one["name"] for one in found["packages"]} >= {"torch", "jax", "flax", "numpy"}
    assert {"problems", "caches", "compile_cache", "variables", "machine"} <= found.keys()
    text = capsys.readouterr().out
    assert "Usable" in text
    assert present[0] in text


def test_jax_that_came_with_other_packages_is_not_taken_for_installed(capsys, monkeypatch):
    monkeypatch.setattr(
        command, "installed_versions", lambda names: {n: "1" for n in names if n != "flax"}
    )
    monkeypatch.setattr(probe, "ask", lambda names, seconds: dict.fromkeys(names, TORCH["torch"]))
    assert main(["doctor", "--framework", "torch"]) == main(["doctor"]) == 0
    assert main(["doctor", "--framework", "jax"]) == 1


def test_one_that_is_asked_for_and_absent_makes_the_status_1(capsys, monkeypatch):
    monkeypatch.setattr(probe, "ask", lambda names, seconds: TORCH)
    assert main(["doctor", "--framework", "torch"]) == 0
    assert main(["doctor", "--framework", "both"]) == 1
    assert "Not usable: JAX is not installed." in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "inf", "soon"])
def test_a_limit_that_is_no_time_is_refused(capsys, value):
    assert main(["doctor", "--timeout", value]) == 2
    assert "--timeout" in capsys.readouterr().err


def test_no_secret_is_among_the_variables(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("XLA_FLAGS", "--xla_x=1")
    found = installation.variables()
    assert "HF_TOKEN" not in found
    assert found["XLA_FLAGS"] == "--xla_x=1"


def test_what_to_install_is_named_as_this_package_was_installed(monkeypatch):
    monkeypatch.chdir(Path(checkout() or "."))
    assert install_command("torch") == "pip install -e '.[torch,bench]'"
    monkeypatch.chdir("/")
    assert install_command("jax") == f"pip install -e '{checkout()}[jax,bench]'"
    monkeypatch.setattr("twingrad.environment.checkout", lambda: None)
    assert install_command("torch", "jax") == "pip install 'twingrad[torch,jax]'"


def test_gpus_are_read_from_the_driver_s_files(monkeypatch, tmp_path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100\nIRQ: 7\n")
    monkeypatch.setattr(installation, "_DRIVER", tmp_path)
    assert installation.gpus() == ["NVIDIA H100"]
    assert installation.devices_here().endswith("; 1 x NVIDIA H100")
