"""Either framework without casts below float64, and the modules that would have them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from twingrad.casts.log import CastLog, watching


@contextmanager
def lifted(framework: Literal["torch", "jax"], lift: bool, log: CastLog) -> Iterator[None]:
    """With ``lift``, code run within casts to no lower precision; ``log`` hears where it would."""
    if not lift:
        yield
        return
    left_out: Callable[[], AbstractContextManager[None]]
    if framework == "torch":
        from twingrad.casts.torch_casts import left_out
    else:
        from twingrad.casts.jax_casts import left_out
    with watching(log), left_out():
        yield
