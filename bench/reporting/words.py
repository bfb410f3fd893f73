"""Filters of the report's templates: text as HTML."""

import math
import re

from markupsafe import Markup, escape

from twingrad.numerics import UNIT_ROUNDOFF


def breaks(text: str) -> Markup:
    """A dotted name that may be broken behind its dots."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[.:_])(?=\w)", text))


def ticks(text: str) -> Markup:
    """``text`` with what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    coded = (Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))
    return Markup("").join(coded)


def power(dtype: str) -> Markup:
    """The unit roundoff of ``dtype`` as a power of two."""
    return Markup("2<sup>{}</sup>").format(f"{math.log2(UNIT_ROUNDOFF[dtype]):.0f}")
