"""Files as they should not be: whole ones, damaged as files are, or by somebody who means it."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], Any]
Way = tuple[Any, ...]

# Lengths and counts, as eight bytes or fewer, that a reader could take for sizes.
_COUNTS = (0, 1, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1)
TEXTS = (
    "", " ", "x", "0", "true", "../../outside", "/etc/passwd", "..", ".", "a\0b", "\ud800", "naïve",
    "\u202e", "F32", "BF16", "F8_E4M3", "torch", "x" * 5000, "[/red]", "%s{0}", "-1", "1e9", "\n",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e308, 2**31, 2**32, 2**53 + 1, 2**63, -(2**63),
    10**18, 10**30, 10**400, [], {}, [[]], [0], [-1], [1, 2, 3], [2**62, 4], [0, 2**63], {"a": 1},
    {"kind": "bytes"}, *TEXTS,
)  # fmt: skip
# What no ``json.dumps`` writes.
_RAW = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "1" + 5000 * "0", "01", "1.",
    "[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "[" * 900 + "]" * 900,
    '"\\ud800"', '"\\u0000"', '"\\x"', "'x'", "", "// nothing", "nul", "1,",
)  # fmt: skip


# Bytes


def _position(draw: Draw, content: bytes) -> int:
    """Any, but more often one near the start, where headers are."""
    ends = (min(16, len(content)), min(400, len(content)), len(content))
    return draw(st.integers(0, draw(st.sampled_from(ends))))


def _flip(draw: Draw, content: bytes) -> bytes:
    if not content:
        return content
    at = min(_position(draw, content), len(content) - 1)
    return content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]


def _cut(draw: Draw, content: bytes) -> bytes:
    return content[: _position(draw, content)]


def _insert(draw: Draw, content: bytes) -> bytes:
    at = _position(draw, content)
    return content[:at] + draw(st.binary(min_size=1, max_size=20)) + content[at:]


def _leave_out(draw: Draw, content: bytes) -> bytes:
    at = _position(draw, content)
    return content[:at] + content[at + draw(st.integers(1, 64)) :]


def _repeat(draw: Draw, content: bytes) -> bytes:
    start, stop = sorted((_position(draw, content), _position(draw, content)))
    return content[:stop] + content[start:]


def _overwrite(draw: Draw, content: bytes) -> bytes:
    at, width = _position(draw, content), draw(st.sampled_from((1, 2, 4, 8)))
    count = draw(st.sampled_from(_COUNTS)) % 256**width
    return content[:at] + count.to_bytes(width, "little") + content[at + width :]


_EDITS = (_flip, _cut, _insert, _leave_out, _repeat, _overwrite)


@st.composite
def damaged(draw: Draw, whole: bytes) -> bytes:
    """``whole`` after one to three edits; now and then bytes that never were such a file."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=400))
    content = whole
    for _ in range(draw(st.integers(1, 3))):
        content = draw(st.sampled_from(_EDITS))(draw, content)
    return content


# JSON


def places(value: Any, way: Way = ()) -> Iterator[Way]:
    """Where a value stands in ``value``, itself first, as the keys and indices that lead there."""
    yield way
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        yield from places(part, (*way, key))


@st.composite
def bent(draw: Draw, whole: Any) -> bytes:
    """``whole`` as JSON, with one to three of its values, keys or letters changed."""
    value, raw = copy.deepcopy(whole), {}
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(list(places(value))))
        if not way:
            continue
        holder = value
        for key in way[:-1]:
            holder = holder[key]
        _bend(draw, holder, way[-1], raw)
    text = json.dumps(value)
    for mark, written in raw.items():
        text = text.replace(json.dumps(mark), written)
    content = text.encode()
    return draw(damaged(content)) if draw(st.integers(0, 9)) == 0 else content


def _bend(draw: Draw, holder: Any, key: Any, raw: dict[str, str]) -> None:
    """Change what stands at ``key``; ``raw`` says which texts stand for what JSON cannot write."""
    mark = f"raw {len(raw)}"
    match draw(st.sampled_from(("value", "value", "near", "raw", "gone", "twice", "more", "in"))):
        case "value":
            holder[key] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
        case "near" if isinstance(holder[key], (int, float)) and abs(holder[key]) < 1e300:
            holder[key] = holder[key] * draw(st.sampled_from((-1, 2, 1.5, 10**9, 1e-9))) + 1
        case "raw":
            holder[key], raw[mark] = mark, draw(st.sampled_from(_RAW))
        case "gone":
            del holder[key]
        case "twice" if isinstance(holder, dict):
            holder[mark], raw[mark] = copy.deepcopy(draw(st.sampled_from(_VALUES))), json.dumps(key)
        case "more" if isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS))] = copy.deepcopy(holder[key])
        case _:
            holder[key] = [holder[key]]
