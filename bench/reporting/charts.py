"""Scales and curves of the charts on the report page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Where the curves of a chart begin and end.
CURVES = (84, 706)


@dataclass(frozen=True)
class Scale:
    """A map of values onto a length, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The place of ``value`` on the length."""
        low, high, x = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return round(self.start + (x - low) / (high - low) * (self.end - self.start), 1)


def even(
    values: Sequence[float], start: float, end: float, zero: bool = False, steps: int = 5
) -> Scale:
    """A scale with round ends around ``values``, and around zero too if ``zero`` is set."""
    low, high = min(values), max(values)
    low = min(low, 0.0) if zero else low
    rough = (high - low or abs(high) or 1.0) / steps
    size = 10 ** math.floor(math.log10(rough))
    step = next(n * size for n in (1, 2, 5, 10) if n * size >= rough * 0.999)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    marks = tuple(n * step for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks)


def decades(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale from one power of ten to another around ``values``."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    marks = tuple(10.0**n for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks, log=True)


@dataclass(frozen=True)
class Curve:
    """Points of one framework, as a line or as dots."""

    label: str
    side: str
    style: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves over two scales, with named levels."""

    title: str
    text: str
    labels: tuple[str, str]
    x: Scale
    y: Scale
    curves: list[Curve]
    levels: dict[str, float] = field(default_factory=dict)
    tick: Callable[[float], str] = "{:g}".format

    def path(self, curve: Curve) -> str:
        """A curve as the data of an SVG path; a dot is a line without length."""
        places = [f"{self.x.at(x):g} {self.y.at(y):g}" for x, y in curve.points]
        if curve.style == "line":
            return "M" + "L".join(places)
        return "".join(f"M{place}h0" for place in places)
