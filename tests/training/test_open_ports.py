"""Which ports the processes of a run on one host listen at: none that another host could reach."""

import os
import re
import sys
from pathlib import Path

import pytest

from bench.training import metrics
from tests.helpers.runs import DIVISIBLE, Run

_LISTENS = "0A"
_EVERYWHERE = ("0" * 8, "0" * 32)
_LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if number := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link)):
                found.add(number[1])
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def _listening(pid: int) -> set[str]:
    """The addresses that a process listens at, in the kernel's hexadecimal digits."""
    ours, found = _sockets(pid), set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS and inode in ours:
                found.add(local.partition(":")[0])
    return found


@pytest.mark.slow("jax")
@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net is read, which is Linux's")
@pytest.mark.attack("network")
def test_the_processes_of_a_run_on_one_host_are_open_to_that_host_alone(framework, text, tmp_path):
    asked = (*DIVISIBLE, "--framework", framework.name, "--data", text, "--steps", 2000)
    with Run(*asked, "--data-parallel", 2, "--out", tmp_path / "run") as run:
        run.wait_for_steps(tmp_path / "run" / framework.name / metrics.FILE, 2)
        open_at = [_listening(run.rank(rank)) for rank in (0, 1)]
    assert open_at[0], "rank 0 listens for its framework"
    assert not (open_at[0] | open_at[1]) & set(_EVERYWHERE)
    # What JAX's processes exchange goes by the network that the host's own name leads to.
    if framework.name == "torch":
        assert open_at[0] | open_at[1] <= set(_LOOPBACK)
