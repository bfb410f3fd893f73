"""The interface of the calls that ceilings are measured by, and the sizes of a step's parts."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from shared.config import GPTConfig

DROP_RATE = 0.1
Call = Callable[[], object]


class TimedPart(NamedTuple):
    """A part of a step: its name, how many elements it works on, and a call of it."""

    name: str
    elements: int
    call: Call


class CeilingCalls(Protocol):
    """The calls of one framework; each waits until it is done."""

    def product(self, rows: int, inner: int, columns: int) -> Call:
        """The product of two matrices of normal numbers, which are drawn on the device."""

    def copy(self, count: int) -> Call:
        """A copy of ``count`` float32 numbers on the device."""

    def parts(self, config: GPTConfig, batch_size: int, length: int) -> Iterator[TimedPart]:
        """Other parts of a step, forward and backward together."""


class Sizes(NamedTuple):
    """Shapes of a residual stream, its heads, GELU's input and the logits."""

    stream: tuple[int, ...]
    heads: tuple[int, ...]
    wide: tuple[int, ...]
    logits: tuple[int, int]
    weights: int  # elements of the attention weights


def sizes(config: GPTConfig, batch_size: int, length: int) -> Sizes:
    """The sizes of the parts of a step."""
    return Sizes(
        stream=(batch_size, length, config.emb_dim),
        heads=(batch_size, length, config.n_heads, config.head_dim),
        wide=(batch_size, length, 4 * config.emb_dim),
        logits=(batch_size * length, config.vocab_size),
        weights=batch_size * config.n_heads * length * length,
    )
