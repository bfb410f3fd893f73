"""Tables of the rotary embedding: sines and cosines of positions, by base and first position."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.foreign import Array

Layout = Literal["halves", "pairs", "once"]
LAYOUTS: dict[Layout, str] = {
    "halves": "repeated in halves (0, 1, ..., 0, 1, ...)",
    "pairs": "each number twice (0, 0, 1, 1, ...)",
    "once": "each number once",
}
FUNCTIONS: dict[str, Callable[[Array], Array]] = {"cosines": np.cos, "sines": np.sin}
_LONGEST = 1 << 16  # positions times frequencies that are worked out
_NEAR = 1e-5  # how near a table has to be: float32's rounding of a base grows with the position


def rotary(context: Context) -> Iterator[Hypothesis]:
    """A table of angles, whose base and scale are read off its second position."""
    for table in (context.torch, context.jax):
        for words, _, values in of_table(table):
            yield words, values


def of_table(table: Array) -> Iterator[tuple[str, float, Array]]:
    """What ``table`` [..., T, D] would be as a rotary one: in words, its base, and its values.

    The angle of position t and pair i is t s b^(-2i/D), of base b and scale s.
    Source: Su et al., RoFormer, 2021, equation 15.
    """
    if table.ndim < 2 or not table.size or table.dtype.kind != "f" or table.shape[-2] < 3:
        return
    T, D = table.shape[-2:]
    if D < 2 or T * D > _LONGEST:
        return
    rows = table.reshape(-1, T, D)[0].astype(np.float64)
    for name, function in FUNCTIONS.items():
        for layout, words in LAYOUTS.items():
            pairs = _pairs(rows, layout)
            if pairs is None or pairs.shape[1] < 2:
                continue
            for first in (0, 1):
                known = _frequencies(name, pairs[1 - first])
                if known is None:
                    continue
                base, scale = known
                count = pairs.shape[1]
                angles = np.outer(np.arange(T) + first, scale * base ** (-np.arange(count) / count))
                values = _laid_out(function(angles), layout)
                if np.linalg.norm(values - rows) <= _NEAR * np.linalg.norm(rows):
                    whole = np.broadcast_to(values, table.shape)
                    yield _named(name, base, scale, first, words), base, whole


def base_of(table: Array) -> float | None:
    """The base of a rotary table; nothing for another tensor."""
    return next((base for _, base, _ in of_table(table)), None)


def _pairs(rows: Array, layout: Layout) -> Array | None:
    """One number for each pair of a head's numbers, [T, D/2]."""
    D = rows.shape[1]
    if layout == "once":
        return rows
    if D % 2:
        return None
    return rows[:, : D // 2] if layout == "halves" else rows[:, ::2]


def _laid_out(values: Array, layout: Layout) -> Array:
    if layout == "once":
        return values
    return np.concatenate([values, values], -1) if layout == "halves" else np.repeat(values, 2, -1)


def _frequencies(name: str, row: Array) -> tuple[float, float] | None:
    """Base and scale, by the angles of position 1."""
    with np.errstate(invalid="ignore"):
        angles = np.arccos(row) if name == "cosines" else np.arcsin(row)
    if not np.isfinite(angles).all() or not (angles[:2] > 0).all():
        return None
    ratio = float(angles[1] / angles[0])
    if not 0 < ratio < 1:
        return None
    return _tidy(ratio ** -float(len(row))), _tidy(float(angles[0]))


def _tidy(value: float) -> float:
    """The number of four digits that it is but for rounding, if it is one."""
    short = float(f"{value:.4g}")
    return short if abs(short - value) <= 1e-6 * abs(value) else value


def _named(name: str, base: float, scale: float, first: int, words: str) -> str:
    text = f"a rotary table of {name} with base {base:.6g}"
    text += f", positions times {scale:.6g}" if abs(scale - 1) > 1e-9 else ""
    text += f", positions from {first}" if first else ""
    return f"{text}, {words}"
