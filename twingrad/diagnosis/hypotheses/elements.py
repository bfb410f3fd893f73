"""The number in a tensor from which NaN or infinity is computed: its place and its value."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from twingrad.foreign import Array

Place = tuple[int, ...]
_EXP_OVERFLOWS = 80.0  # exp of more than this is near or over the largest float32


def first(bad: Array) -> Place:
    """Where the first true element of ``bad`` is."""
    return tuple(map(int, np.unravel_index(int(np.argmax(bad)), bad.shape)))


def at(place: Place) -> str:
    """`` at [0, 3]``; empty for the place of a scalar."""
    return f" at [{', '.join(map(str, place))}]" if place else ""


def word(value: float) -> str:
    """A number as a sentence has it."""
    if math.isnan(value):
        return "NaN"
    return f"{value + 0.0:.6g}" if math.isfinite(value) else ("" if value > 0 else "-") + "infinity"


def element(bad: Array, sources: Mapping[str, Array]) -> str | None:
    """Which number of which of ``sources`` gives what is ``bad``, in words; None if none shows.

    A number gives it where it sets apart what is bad from what is not: element by element, where
    the shapes are one, else row by row along the leading axes that both have.
    """
    floats = {name: x for name, x in sources.items() if x.dtype.kind == "f" and x.size}
    for look in (_by_element, _by_row):
        for name, x in floats.items():
            said = look(bad, x)
            if said:
                return f"{name} {said}"
    return None


def _by_element(bad: Array, x: Array) -> str | None:
    if x.shape != bad.shape or not x.ndim:
        return None
    inside, outside = x[bad], x[~bad]
    place = first(bad)
    alike = (
        not np.isfinite(inside).any() or not inside.any() or (inside < 0).all()
        or (np.abs(inside) > _EXP_OVERFLOWS).all()
    )  # fmt: skip
    # Rules of one kind of number; else a threshold that all that is bad lies beyond.
    apart = outside.size and any(
        one.min() > other.max() or one.max() < other.min()
        for one, other in ((inside, outside), (np.abs(inside), np.abs(outside)))
    )
    return f"is {word(float(x[place]))}{at(place)}" if alike or apart else None


@dataclass(frozen=True)
class _Feature:
    """Something about a row of numbers: which rows have it, which of a row's numbers show it.

    One that is ``plain`` explains NaN by itself, where no row is good to compare with.
    """

    text: str
    numbers: Callable[[Array], Array]
    whole: bool = False
    plain: bool = True

    def of(self, rows: Array) -> Array:
        """Which rows have it."""
        shown = self.numbers(rows)
        return np.asarray(shown.all(-1) if self.whole else shown.any(-1))


_FEATURES = (
    _Feature("is -infinity throughout", np.isneginf, whole=True),
    _Feature("holds {value}", lambda x: ~np.isfinite(x)),
    _Feature("is 0 throughout", lambda x: x == 0, whole=True),
    _Feature("is {value} throughout, so that its variance is 0", lambda x: x == x[:, :1], True),
    _Feature("holds 0", lambda x: x == 0),
    _Feature("holds {value}", lambda x: np.abs(x) > _EXP_OVERFLOWS),
    _Feature("holds {value}", lambda x: x < 0, plain=False),
)


def _by_row(bad: Array, x: Array) -> str | None:
    shared = 0
    while shared < min(bad.ndim, x.ndim - 1) and bad.shape[shared] == x.shape[shared]:
        shared += 1
    for leading in range(shared, -1, -1):
        if leading == 0 and bad.ndim and bad.shape[0] == (x.shape or (0,))[0] != 1:
            return None  # rows belong together, and no row tells: the whole says too little
        bad_rows = bad.reshape(*bad.shape[:leading], -1).any(-1).ravel()
        said = _by_feature(bad_rows, x.reshape(len(bad_rows), -1), x.shape, leading)
        if said:
            return said
    return None


def _by_feature(bad: Array, rows: Array, shape: Place, leading: int) -> str | None:
    """The first feature that all bad rows have and no other."""
    for feature in _FEATURES:
        has = feature.of(rows)
        if not has[bad].all() or has[~bad].any() or not (feature.plain or (~bad).any()):
            continue
        if feature.whole and rows.shape[1] < 2:
            continue
        row = int(np.argmax(bad))
        column = 0 if feature.whole else int(np.argmax(feature.numbers(rows[row : row + 1])[0]))
        flat = row * rows.shape[1] + column
        place = tuple(map(int, np.unravel_index(flat, shape)))
        text = feature.text.format(value=word(float(rows[row, column])))
        return text + at(place[:leading] if feature.whole else place)
    return None


def index(
    bad: Array,
    sources: Mapping[str, Array],
    rows: int | None,
    names: str = "a table of {rows} rows",
) -> str | None:
    """The index among ``sources`` that is out of range of ``rows``; None if none is.

    Names of ``sources`` have ``{index}`` where the number and its place stand in the sentence.
    Where ``rows`` is not known, it is one beyond all indices whose rows are no NaN.
    """
    for name, ids in _integers(sources):
        if rows is not None:
            outside = (ids >= rows) | (ids < -rows)
        else:
            outside = _beyond_the_others(bad, ids)
        if outside.any():
            place = first(outside)
            table = "" if rows is None else f" of {names.format(rows=rows)}"
            number = f"{int(ids[place])}{at(place)}"
            return f"{name.format(index=number)} is out of range{table}"
    return None


def _beyond_the_others(bad: Array, ids: Array) -> Array:
    """The indices of bad rows, if they are all larger, or all smaller, than any other's."""
    nowhere = np.zeros(ids.shape, bool)
    if not ids.ndim or bad.shape[: ids.ndim] != ids.shape:
        return nowhere
    rows = np.asarray(bad.reshape(*ids.shape, -1).any(-1))
    if rows.all() or not rows.any():
        return nowhere
    inside, outside = ids[rows], ids[~rows]
    return rows if inside.min() > outside.max() or inside.max() < outside.min() else nowhere


def _integers(sources: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    return ((name, x) for name, x in sources.items() if x.dtype.kind in "iu" and x.size)
