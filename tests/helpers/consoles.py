"""What a console shows at several widths."""

import io
import re
from collections import Counter
from collections.abc import Callable

from rich.console import Console

WIDTHS = (120, 80, 60, 40)
_NUMBER = re.compile(r"(?<!\S)[+-]?\d[\d,.]*(?:e[+-]?\d+)?[%*]?(?!\S)")


def shown(show: Callable[[Console], object], width: int) -> str:
    """The text of ``show`` on a console of ``width`` columns."""
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False, color_system=None))
    return text.getvalue()


def assert_fits(show: Callable[[Console], object]) -> None:
    """At every width: no line is wider, nothing is cut, and every number stands whole."""
    whole = shown(show, 400)
    for width in WIDTHS:
        text = shown(show, width)
        assert "…" not in text
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= width, f"too wide at {width}"
        missing = _characters(whole) - _characters(text)
        assert not missing, f"at {width} columns these are lost: {missing}"
        torn = Counter(_NUMBER.findall(whole)) - Counter(_NUMBER.findall(text))
        assert not torn, f"at {width} columns these are torn: {torn}"


def _characters(text: str) -> Counter[str]:
    return Counter(character for character in text if not character.isspace() and character != "─")
