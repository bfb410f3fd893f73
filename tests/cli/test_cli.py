"""The front door: what a wrong call gets, what a right one writes."""

import subprocess
import sys

import pytest

from bench.harness import frameworks
from tests.helpers.commands import refused

both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["compare", "gpt3"], ["'gpt3'", "gpt2"]),
        (["compare", "gpt2", "--preset", "125m"], ["'125m'", "124m"]),
        (["compare", "--dtype", "float16"], ["'float16'", "bfloat16"]),
        (["compare", "--device", "tpu"], ["'tpu'", "cuda"]),
        (["compare", "gpt2", "--preset"], ["--preset", "--help"]),
        (["compare", "--colour"], ["--colour", "--help"]),
        (["compere"], ["'compere'", "compare"]),
        (["compare", "simple-net", "--preset", "tiny"], ["--preset", "gpt2"]),
        (["compare", "--save", "x.safetensors"], ["--save", "gpt2"]),
        (["compare", "gpt2", "--save", "x.safetensors"], ["--save", "--preset"]),
        (["compare", "--json", "/nowhere/at/all/x.json"], ["/nowhere/at/all", "create"]),
        (["mutants", "--only", "no-such-bug"], ["no-such-bug"]),
        (["mutants", "--device", "gpu"], ["'gpu'", "cuda"]),
    ],
)
@both
def test_a_wrong_call_is_refused_in_one_sentence(capsys, call, named):
    said = refused(capsys, *call)
    for word in named:
        assert word in said


@pytest.mark.parametrize(
    "call",
    [
        ["sample", "--prompt", "x", "--checkpoint", "a" * 5000],
        ["export", "--out", "x", "--checkpoint", "a" * 5000],
        ["train", "--data", "a" * 5000],
        ["train", "--data", "~nobody-of-this-name/text"],
        ["train", "--data", "markov:" + "9" * 5000],
        ["diagnose", "a" * 5000 + ".py"],
        ["bench", "--check", "a" * 5000],
        ["report", "--html", "a" * 5000],
    ],
)
@both
def test_a_path_that_no_system_takes_is_refused(capsys, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    assert call[-1][:9] in refused(capsys, *call)
    assert list(tmp_path.iterdir()) == []


@both
def test_cuda_asked_for_and_absent_is_refused(capsys):
    torch, jax = frameworks.both()
    if "cuda" in torch.runtime.devices() and "cuda" in jax.runtime.devices():
        pytest.skip("there is a CUDA device here")
    assert "cuda" in refused(capsys, "compare", "--device", "cuda")
    assert "tf32" in refused(capsys, "compare", "--dtype", "tf32")


def test_a_missing_framework_is_named_with_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(frameworks, "installed", lambda name: name != "jax")
    said = refused(capsys, "compare", "sigmoid-bce")
    assert "jax is not installed, and torch alone has nothing to be compared with" in said
    assert "pip install -e '" in said  # for this is a checkout
    assert "[jax,bench]'" in said
    assert "train, sample and bench work with one" in said


def test_python_m_bench_is_the_same_front_door():
    run = subprocess.run(
        [sys.executable, "-m", "bench", "compare", "nothing"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("twingrad: unknown program 'nothing'")
    assert run.stderr.count("\n") == 1


def test_a_bug_that_is_not_known_is_refused_before_a_framework_is_loaded():
    call = "main(['mutants', '--only', 'x']); print({'torch', 'jax'} & {*sys.modules})"
    script = f"import sys; from bench.cli.main import main; {call}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stderr.startswith("twingrad: unknown mutant 'x'")
    assert run.stdout == "set()\n"
