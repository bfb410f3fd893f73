"""Clocks, memory and load of the machine."""

import subprocess
from pathlib import Path

import pytest

from bench.harness import machine
from bench.speed import rows
from tests.helpers.running import output

SMI = "NVIDIA H200, 570.86.15, 1980, 3201, 41, 118.20\n"


@pytest.mark.parametrize("printed", [SMI, SMI + SMI], ids=["one GPU", "two GPUs"])
def test_clocks_of_a_gpu_are_read_from_nvidia_smi(monkeypatch, printed):
    def run(command, **_):
        assert command[0] == "nvidia-smi"
        return subprocess.CompletedProcess(command, 0, stdout=printed)

    monkeypatch.setattr(machine.subprocess, "run", run)
    found = machine.clocks("cuda")
    assert found == {
        "name": "NVIDIA H200",
        "driver_version": "570.86.15",
        "clocks.sm": "1980",
        "clocks.mem": "3201",
        "temperature.gpu": "41",
        "power.draw": "118.20",
    }
    assert rows.datasheet("cuda") == 989e12
    assert rows.datasheet("cpu") is None


@pytest.mark.parametrize(("said", "free"), [("1024\n", 2.0**30), ("[N/A]\n", None), ("", None)])
def test_on_a_gpu_what_is_free_there_decides_who_is_timed_together(monkeypatch, said, free):
    def run(command, **_):
        assert "memory.free" in command[1]
        return subprocess.CompletedProcess(command, 0, stdout=said)

    monkeypatch.setattr(machine.subprocess, "run", run)
    found = machine.free_memory("cuda")
    assert found == free if free else found == pytest.approx(machine.free_memory("cpu"), rel=0.2)


def test_where_nvidia_smi_is_absent_there_are_no_clocks(monkeypatch):
    def run(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine.clocks("cuda") == {}
    assert rows.datasheet("cuda") is None


STARTS = """
import subprocess, sys, time
from bench.harness import machine

spin = "import time; [0 for _ in iter(lambda: time.process_time() < 1.5, False)]; print(); input()"
before = machine.own_seconds()
two = [
    subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     start_new_session={apart})
    for _ in range(2)
]
for one in two:
    one.stdout.read(1)
if not {apart}:
    two[0].communicate(b"0")
print(machine.own_seconds() - before)
for one in two:
    one.kill()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the kernel's counts are in /proc")
@pytest.mark.parametrize("apart", [False, True])
def test_what_a_contestant_starts_is_its_own_and_what_others_start_is_not(apart):
    seconds = float(output(STARTS.format(apart=apart)))
    # One of them is still there, the other one has been waited for.
    assert seconds < 1.4 if apart else seconds > 2.9
