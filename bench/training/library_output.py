"""Standard output without the lines that C++ libraries of several processes write there."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shared.world import World


@contextmanager
def python_alone_on_stdout(world: World) -> Iterator[None]:
    """Within, Python alone writes to stdout, where there are several processes.

    Gloo reports there every connection that it makes. Errors of libraries go to stderr, which
    stays as it is.
    """
    before = sys.stdout
    is_redirected = before is not sys.__stdout__
    if world.size == 1 or is_redirected:
        yield
        return
    before.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere, os.fdopen(kept, "w", buffering=1) as python:
        os.dup2(nowhere.fileno(), 1)
        sys.stdout = python
        try:
            yield
        finally:
            python.flush()
            os.dup2(kept, 1)
            sys.stdout = before
