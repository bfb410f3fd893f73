"""What C++ libraries write to stdout stays out of a run in several processes."""

import subprocess
import sys

import pytest

CODE = """
import os, sys
from bench.training.library_output import python_alone_on_stdout
from shared.world import World
with python_alone_on_stdout(World(rank=0, size={size})):
    os.write(1, b"chatter of a library\\n")
    os.write(2, b"an error of a library\\n")
    print("the result")
print("afterwards", flush=True)
os.write(1, b"and without Python\\n")
"""


@pytest.mark.parametrize(("size", "chatter"), [(1, ["chatter of a library"]), (2, [])])
def test_of_several_processes_python_alone_writes_to_stdout(size, chatter):
    done = subprocess.run(
        [sys.executable, "-u", "-c", CODE.format(size=size)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ["the result", "afterwards", "and without Python"]
    assert done.stdout.splitlines() == [*chatter, *lines]
    assert done.stderr == "an error of a library\n"
