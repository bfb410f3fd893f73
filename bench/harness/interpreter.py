"""Settings of the interpreter while programs run, after the frameworks have been loaded."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_collection() -> Iterator[None]:
    """Have garbage collections pass over what both frameworks have loaded."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
