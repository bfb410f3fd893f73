"""What the frameworks' own means of meeting do not give, which is why ``shared/rendezvous`` exists.

If one of these fails because a framework has learnt to say it, read docs/decisions.md again.
"""

import subprocess
import sys

import pytest

from bench.harness.frameworks import installed
from bench.training import launcher

JAX = """
import sys, jax
jax.distributed.initialize(
    f"127.0.0.1:{sys.argv[1]}", num_processes=3, process_id=int(sys.argv[2]),
    initialization_timeout=4, cluster_detection_method="deactivate",
)
"""
TORCH = """
import sys, datetime, torch.distributed as dist
first, port = sys.argv[2] == "0", int(sys.argv[1])
four = datetime.timedelta(seconds=4)
dist.TCPStore("127.0.0.1", port, 3, is_master=first, timeout=four)
"""


def _two_of_three(program: str) -> list[tuple[int, str]]:
    """Status and stderr of the processes of rank 0 and 1, of which there should be three."""
    port = str(launcher.free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, port, rank], stderr=subprocess.PIPE, text=True
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.mark.slow
def test_jax_aborts_where_a_process_is_absent_and_does_not_name_it():
    if not installed("jax"):
        pytest.skip("jax is not installed")
    for status, said in _two_of_three(JAX):
        assert status < 0, "no exception that could be turned into a sentence"
        assert "Check failure" in said
        assert "process 2" not in said


@pytest.mark.slow
def test_pytorchs_store_counts_processes_and_does_not_name_them():
    if not installed("torch"):
        pytest.skip("torch is not installed")
    (status, said), _ = _two_of_three(TORCH)
    assert status == 1
    assert "2/3 clients joined" in said
    assert "rank 2" not in said
