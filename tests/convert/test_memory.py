"""A conversion holds one tensor at a time: its memory, above that of what it imports."""

import subprocess
import sys

import pytest

from bench.harness import frameworks
from tests.helpers.checkpoints_to_convert import PORTS

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)
pytest.importorskip("transformers")

pytestmark = pytest.mark.slow

# The most that a conversion may take, in sizes of the checkpoint.
MOST = 1.2
SAVE = """
import os, sys
sys.path.insert(0, os.environ["PORTS"])
import torch
from hf_gpt2 import pair

torch.manual_seed(0)
model = pair.torch()
model.save_pretrained("given")
torch.save(model.state_dict(), "given.pt")
"""
# ru_maxrss begins with what the process that started this one had: the peak of this one's own
# memory, which is the same number otherwise, is in VmHWM.
CONVERT = """
import os, sys
sys.path.insert(0, os.environ["PORTS"])
import hf_gpt2, optax, orbax.checkpoint, safetensors.torch
from twingrad import comparison
from twingrad.cli.main import main

def peak():
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

before = peak()
words = [os.path.join(os.environ["PORTS"], "hf_gpt2.py"), "--no-check", *sys.argv[1:]]
assert main(["convert", *words]) == 0
print(peak() - before)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs a program in a folder of its own; what it prints last, as a number."""
    folder = tmp_path_factory.mktemp("memory")

    def run(program, *words):
        environment = {"PORTS": str(PORTS), "GPT2": "small", "PATH": "", "JAX_PLATFORMS": "cpu"}
        environment["PYTHONPATH"] = str(PORTS.parents[2])
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int((done.stdout.split() or ["0"])[-1])

    run(SAVE)
    run.size = (folder / "given" / "model.safetensors").stat().st_size
    assert run.size > 490e6
    run.folder = folder
    return run


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is Linux's to tell")
def test_half_a_gigabyte_takes_at_most_its_size_and_a_fifth(run):
    calls = {
        "from safetensors": ("given", "jax", "jax"),
        "from a pickle": ("given.pt", "jax", "jax-2"),
        "back": ("jax", "torch", "torch"),
        "back from Orbax": ("jax/orbax", "torch", "torch-2"),
    }
    taken = {
        name: run(CONVERT, "--weights", weights, "--to", to, "--out", out) / run.size
        for name, (weights, to, out) in calls.items()
    }
    print({name: round(share, 2) for name, share in taken.items()})
    assert max(taken.values()) <= MOST, taken
    given = (run.folder / "given" / "model.safetensors").read_bytes()
    assert given == (run.folder / "torch" / "model.safetensors").read_bytes()
    assert given == (run.folder / "torch-2" / "model.safetensors").read_bytes()
