"""Commands in odd surroundings: without assertions, languages, colours, streams or columns."""

import os
import re
import subprocess
import sys

import pytest

from bench.harness import frameworks
from bench.harness.frameworks import one
from tests.helpers.sources import ROOT
from twingrad.cli import surroundings

pytestmark = pytest.mark.attack("sentences")

SURROUNDINGS = {
    "-O": (["-O"], {}, ""),
    "-OO": (["-OO"], {}, ""),
    "C": ([], {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
    "ascii": ([], {"PYTHONIOENCODING": "ascii"}, ""),
    "dumb": ([], {"TERM": "dumb", "FORCE_COLOR": "1"}, ""),
    "no colour": ([], {"NO_COLOR": "1"}, ""),
    "20 columns": ([], {"COLUMNS": "20"}, ""),
    "no stdin": ([], {}, "<&-"),
    "no stdout": ([], {}, ">&-"),
    "no streams": ([], {}, "<&- >&- 2>&-"),
}
COMMANDS = {
    "help": ["--help"],
    "wrong": ["compere"],
    "plan": ["plan", "--preset", "tiny"],
    "compare": ["compare", "sigmoid-bce", "--dtype", "float64"],
    "tensors": ["tensors"],
    "train": ["train", "--preset", "tiny", "--steps", "2", "--length", "16", "--batch-size", "2"],
}


@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
@pytest.mark.slow(
    *("*-plan", "*-compare", "*-tensors", "*-train", "*-help"),
    *("-O-*", "C-*", "ascii-*", "dumb-*", "no colour-*", "no std*"),
)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_a_command_ends_in_no_traceback_anywhere(tmp_path, surroundings, command):
    switches, variables, redirected = SURROUNDINGS[surroundings]
    words = [sys.executable, *switches, "-m", "twingrad", *COMMANDS[command]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == (2 if command == "wrong" else 0), done.stderr


# Settings with which JAX cannot start.
UNUSABLE = [("JAX_PLATFORMS", "cuda"), ("JAX_PLATFORMS", "nonsense"), ("XLA_FLAGS", "--junk=1")]
STARTING = {
    "compare": ["compare", "sigmoid-bce", "--dtype", "float64"],
    "diagnose": ["diagnose", "sigmoid-bce"],
    "train": ["train", "--framework", "jax", "--preset", "tiny", "--steps", "2", "--out", "run"],
    "bench": ["bench", "--workload", "overhead", "--starts", "1", "--budget", "90s"],
}


@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
@pytest.mark.slow("JAX_PLATFORMS-*", "XLA_FLAGS-*-bench", "XLA_FLAGS-*-compare", "*-train")
@pytest.mark.parametrize("command", STARTING)
@pytest.mark.parametrize(("variable", "value"), UNUSABLE)
def test_a_setting_with_which_jax_cannot_start_is_named(tmp_path, variable, value, command):
    devices = one("jax").runtime.devices()
    if value in devices:
        pytest.skip("JAX has a CUDA device here")
    done = _run(tmp_path, STARTING[command], **{variable: value})
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (2, False)
    said = [line for line in done.stderr.splitlines() if line.startswith("twingrad: ")]
    assert len(said) == 1
    assert f"JAX cannot start with {variable}={value}" in said[0]
    assert not list(tmp_path.glob("run*"))


@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "bench"])
def test_temporary_files_may_have_a_long_path(tmp_path, command):
    folder = tmp_path / ("long" * 35)
    folder.mkdir()
    done = _run(tmp_path, STARTING[command], TMPDIR=str(folder))
    # Of bench it is 1 where the machine is so busy that there is no time for its samples.
    assert done.returncode in ((0, 1) if command == "bench" else (0,)), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in folder.iterdir() if "twingrad" in path.name] == []


def _run(folder, words, **variables):
    return subprocess.run(
        [sys.executable, "-m", "twingrad", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.skipif(not frameworks.installed("jax"), reason="JAX is asked")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--junk=1", "Unknown flag in XLA_FLAGS: --junk=1"),
        ("--xla_force_host_platform_device_count=abc", "Couldn't interpret value abc for flag"),
        ("no-such-file", 'Could not open file "no-such-file"'),
    ],
)
def test_the_reason_is_xlas_own_and_not_its_list_of_flags(monkeypatch, flags, reason):
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        surroundings.require_known_flags({**os.environ, "XLA_FLAGS": flags})
    assert str(error.value).endswith("; correct or unset it")
    assert len(str(error.value)) < 400
