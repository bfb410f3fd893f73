"""What may be called from Python, in anybody's own tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twingrad.diagnosis import engine, finding
from twingrad.pair import Pair, load


def diagnose(pair: Pair | str | Path, *, every: bool = False) -> list[finding.Finding]:
    """Where the two models of ``pair``, or of a pair file, first part; empty if nowhere.

    With ``every``, all places and not the first alone. Raises ``ValueError`` for a pair that cannot
    be judged.
    """
    return engine.diagnose(pair if isinstance(pair, Pair) else load(Path(pair)), every=every)


def assert_equal_models(
    torch: Callable[[], Any],
    jax: Callable[[], Any],
    *,
    batch: Sequence[Any],
    torch_loss: Callable[..., Any],
    jax_loss: Callable[..., Any],
    **options: Any,
) -> None:
    """Claim that two models are one: loss, every module's own output and gradient, every parameter.

    Arguments are those of ``Pair``. The bounds are ``numerics.OWN_RELATIVE``, relative, for each
    place by itself. Raises ``AssertionError`` that names the first place that does not agree, and
    the cause where one is known; ``ValueError`` for a pair that cannot be judged.
    """
    pair = Pair(
        torch=torch, jax=jax, batch=batch, torch_loss=torch_loss, jax_loss=jax_loss, **options
    )
    found = engine.diagnose(pair)
    if found:
        raise AssertionError(f"{finding.located(found)} ({found[0].evidence})")
