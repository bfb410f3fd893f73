"""Whether twice the work takes about twice the time, however busy the machine is."""

import gc
import time
from collections.abc import Callable

# Twice the work: what is linear takes 2 times as long, what is quadratic 4 times.
MOST = 3.0
TRIES = 30


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this thread alone, so that no other thread or process counts."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def check_linear(once: Callable[[], object], twice: Callable[[], object]) -> None:
    """Raise ``AssertionError`` unless ``twice`` takes at most ``MOST`` times as long as ``once``.

    The two run in turn, at least three times each, and the shortest of each counts: whatever
    disturbs a run makes it longer. While the two stand too far apart they run again, up to
    ``TRIES`` times. Python's garbage collection is off: it takes longer the more objects other
    tests have left.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        shortest = [float("inf"), float("inf")]
        for number in range(1, TRIES + 1):
            for place, work in enumerate((once, twice)):
                shortest[place] = min(shortest[place], _seconds(work))
            if number >= 3 and shortest[1] < MOST * shortest[0]:
                return
    finally:
        if collects:
            gc.enable()
    raise AssertionError(
        f"{shortest[1]:.4f} s for twice the work of {shortest[0]:.4f} s: more than linear"
    )
