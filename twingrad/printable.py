"""Text of others, shown: nothing in it steers the terminal, and none of it is endless."""

import re

# Characters of a sentence that are shown at most.
MOST = 1000
_CUT = " ... "
# Controls of the terminal, marks that hide or turn text around, and halves of UTF-16 pairs.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_HALF = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with every character that steers a terminal written as Python escapes it."""
    for kind in (_STEERS, _HALF):
        text = kind.sub(lambda found: ascii(found[0])[1:-1], text)
    return text


def sentence(text: str, most: int = MOST) -> str:
    """``text`` printable and in one line of at most ``most`` characters, cut out of its middle."""
    line = printable(" ".join(text.split()))
    if len(line) <= most:
        return line
    end = most // 3
    return line[: most - end - len(_CUT)] + _CUT + line[-end:]
