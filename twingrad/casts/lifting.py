"""Either framework without casts below float64, and the modules that would have them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from twingrad.casts.log import CastLog, watching
from twingrad.casts.originals import Originals


@contextmanager
def lifted(
    framework: Literal["torch", "jax"], lift: bool | Originals, log: CastLog
) -> Iterator[None]:
    """With ``lift``, code run within casts to no lower precision; ``log`` hears where it would.

    Given ``Originals``, JAX's constants have the digits that these give back.
    """
    if not lift:
        yield
        return
    with watching(log), _left_out(framework, lift if isinstance(lift, Originals) else None):
        yield


def _left_out(
    framework: Literal["torch", "jax"], originals: Originals | None
) -> AbstractContextManager[None]:
    if framework == "torch":
        from twingrad.casts import torch_casts

        return torch_casts.left_out()
    from twingrad.casts import jax_casts

    return jax_casts.left_out(originals)
