"""The choice among changed operations: which of them is the cause, if one is."""

from collections.abc import Callable, Iterable

import numpy as np

from twingrad.diagnosis.finding import Cause
from twingrad.foreign import Array

# A kind's rank, what PyTorch computes and what JAX would, whether it is arithmetic by a constant,
# and whether it gives JAX's numbers.
Candidate = tuple[int, tuple[str, str], bool, Callable[[], bool]]
NUMBERS = 6  # the rank of the family of arithmetic, ``changes.numbers``


def chosen(candidates: Iterable[Candidate], torch: Array, jax: Array, near: float) -> Cause | None:
    """What one change explains, to a relative distance of ``near``; nothing for rival ones.

    A factor can be written, or left out, at many places: where the two are a factor apart no
    arithmetic is a cause, nor, of a single number, is anything that gives a small whole factor. A
    single number is always a factor apart: of it, only arithmetic by a constant is none.
    """
    if not np.isfinite(np.linalg.norm(jax.ravel())) or torch.shape != jax.shape:
        return None
    factor = _factor(torch, jax, near)
    if factor is not None and jax.size == 1 and _is_plain(factor):
        return None
    fitting: list[tuple[int, tuple[str, str]]] = []
    for rank, words, is_arithmetic, fits in candidates:
        if factor is not None and (is_arithmetic or (rank == NUMBERS and jax.size > 1)):
            continue
        if fitting and rank > fitting[0][0]:
            break  # a kind that comes later explains nothing better
        if fits():
            fitting.append((rank, words))
            if jax.size > 1:
                break
    different = list(dict.fromkeys(words for _, words in fitting))
    if len(different) != 1:
        return None
    return Cause(f"computed with {different[0][0]}", f"with {different[0][1]}")


def _factor(torch: Array, jax: Array, near: float) -> float | None:
    """The factor that the two are apart, if they are; 0 where one of them has zeros alone."""
    square = float((torch * torch).sum())
    if not square:
        return 0.0
    factor = float((torch * jax).sum()) / square
    error = float(np.linalg.norm((jax - factor * torch).ravel()))
    return factor if error <= near * float(np.linalg.norm(jax.ravel())) else None


def _is_plain(factor: float) -> bool:
    """Whether anybody writes such a factor: 2, 1/3, 0.1 or the sign."""
    value = max(abs(factor), 1 / abs(factor)) if factor else 0.0
    return any(
        abs(value - plain) <= 1e-9 * plain for plain in (1.0, 1.5, 2.0, 3.0, 4.0, 10.0, 100.0)
    )
