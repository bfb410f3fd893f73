"""The device of a pair: refused where it is not seen, and otherwise where all of it lies."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import twingrad
from twingrad import devices, torch_probe
from twingrad.cli.main import main
from twingrad.environment import require_frameworks

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).normal(size=(4, 3))
FILE = """
import numpy as np
import torch
from flax import nnx
from twingrad import Pair

pair = Pair(
    torch=torch.nn.Linear(3, 2), jax=nnx.Linear(3, 2, rngs=nnx.Rngs(0)), batch=[np.ones((4, 3))]
)
"""


def pair():
    return twingrad.Pair(
        torch=nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        jax=nnx.Sequential(
            nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(4, 2, rngs=nnx.Rngs(1))
        ),
        batch=[X],
        name="net",
    )


@pytest.fixture
def unseen(monkeypatch):
    monkeypatch.delenv(devices.PREALLOCATE, raising=False)
    monkeypatch.setattr(devices, "_sees", lambda framework, device: False)


@pytest.mark.parametrize("command", ["compare", "diagnose", "bench"])
def test_a_device_that_is_not_seen_is_refused_in_a_sentence(command, unseen, tmp_path, capsys):
    file = tmp_path / "pair.py"
    file.write_text(FILE)
    assert main([command, str(file), "--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert "torch and jax see no cuda device here: install 'twingrad[cuda]'" in said
    assert said.count("\n") == 1


def test_the_functions_refuse_it_too(unseen, monkeypatch):
    for function in (twingrad.compare, twingrad.diagnose, twingrad.assert_equal):
        with pytest.raises(ValueError, match="torch and jax see no cuda device"):
            function(pair(), device="cuda")
    with pytest.raises(ValueError, match="a pair runs on cpu or cuda"):
        twingrad.compare(pair(), device="tpu")
    monkeypatch.setattr(devices, "_sees", lambda framework, device: framework == "torch")
    with pytest.raises(ValueError, match=r"^jax sees no cuda device"):
        devices.require("cuda")
    devices.require("cuda", "torch")


def test_what_the_frameworks_see_is_asked_of_them():
    require_frameworks()
    assert devices._sees("torch", "cuda") == torch.cuda.is_available()
    assert devices._sees("jax", "cpu")
    assert not devices._sees("jax", "nothing of the kind")


def test_pytorchs_model_and_batch_are_put_on_the_device_by_one_function(monkeypatch):
    monkeypatch.setattr(devices, "torch_device", lambda: torch.device("meta"))
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    prepared = torch_probe.prepare(model, "float64", train=False)
    assert {x.device.type for x in prepared.state_dict().values()} == {"meta"}
    batch = torch_probe.batch_of([X, np.arange(3)], "float32")
    assert [(x.device.type, x.dtype) for x in batch] == [
        ("meta", torch.float32), ("meta", torch.int64)
    ]  # fmt: skip


SECOND = """
import json, sys
import jax, numpy as np
from tests.twingrad import test_devices
from twingrad import devices, jax_probe
import twingrad

second = jax.devices("cpu")[1]
devices.jax_device = lambda: second
places = set()
run = jax_probe.Subject.run

def watched(subject, tensors, loss_fn, batch, handler):
    for x in [*tensors.values(), *batch]:
        if not isinstance(x, jax.core.Tracer):
            places.update(map(str, x.devices()))
    return run(subject, tensors, loss_fn, batch, handler)

plain = jax_probe.Subject.plain

def plainly(subject, *arguments):
    for x in [*subject.tensors.values(), *subject.batch(arguments[1])]:
        places.update(map(str, x.devices()))
    return plain(subject, *arguments)

jax_probe.Subject.run, jax_probe.Subject.plain = watched, plainly
compared = twingrad.compare(test_devices.pair())
# Weights that somebody has put on another device, in the dtype under test.
weights = {"w": jax.device_put(np.ones(3, np.float32), jax.devices("cpu")[0])}
subject = jax_probe.Subject((lambda params, x: x * params["w"], weights), "float32", False)
places.update(map(str, subject.tensors["w"].devices()))
print(json.dumps([compared.ok, sorted(places), str(second)]))
"""


@pytest.mark.slow
def test_jaxs_model_and_batch_are_put_on_the_device_by_one_function():
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", SECOND],
        cwd=ROOT,
        env={"XLA_FLAGS": flags, "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ok, places, second = json.loads(done.stdout)
    assert (ok, places) == (True, [second])


@pytest.fixture
def gpu(monkeypatch):
    """A GPU to every question, and the CPU to every tensor."""
    monkeypatch.setenv(devices.PREALLOCATE, "as it was")
    monkeypatch.setattr(devices, "_sees", lambda framework, device: True)
    monkeypatch.setattr(devices, "torch_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(devices, "jax_device", lambda: jax.devices("cpu")[0])


def _precisions():
    cudnn = torch.backends.cudnn
    matmul = torch.get_float32_matmul_precision()
    return matmul, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_a_precision_that_the_users_code_has_set_is_given_back(gpu, monkeypatch, precision):
    monkeypatch.setattr(devices, "current", lambda: "cuda")
    conv = torch.backends.cudnn.conv
    was, conv.fp32_precision = conv.fp32_precision, precision
    try:
        with devices.torch_defaults():
            assert conv.fp32_precision == "ieee"
        assert conv.fp32_precision == precision
    finally:
        conv.fp32_precision = was


def test_the_report_names_the_device_and_its_products(gpu, tmp_path, capsys):
    file, out = tmp_path / "pair.py", tmp_path / "out.json"
    file.write_text(FILE)
    before = _precisions()
    assert main(["compare", str(file), "--device", "cuda", "--json", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "without TF32: float32_matmul_precision highest, cudnn.conv.fp32_precision ieee" in printed
    )
    report = json.loads(out.read_text())
    assert report["environment"]["device"] == "cuda"
    for program in report["programs"]:
        assert program["device"] == "cuda"
        assert program["settings"]["torch"]["cudnn.rnn.fp32_precision"] == "ieee"
        assert program["settings"]["jax"] == {"jax_default_matmul_precision": "highest"}
    assert _precisions() == before
    assert devices.current() == "cpu"


def test_a_diagnosis_runs_there_too(gpu):
    assert twingrad.diagnose(pair(), device="cuda").ok


def test_on_a_cpu_nothing_is_said_of_it():
    with devices.using("cpu"):
        assert devices.settings() == {}
