"""Tables and numbers on a terminal: the library's, and what the workbench adds to them."""

from twingrad.terminal import NAMES, Say, new_console, progress, put, silent, table, units

__all__ = [
    "NAMES",
    "Say",
    "gib",
    "new_console",
    "progress",
    "put",
    "seconds",
    "silent",
    "table",
    "units",
]


def gib(size: float) -> str:
    """Bytes in GiB, to three digits."""
    return f"{size / 2**30:.3g}"


def seconds(value: float) -> str:
    """A time in the unit that leaves three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"
