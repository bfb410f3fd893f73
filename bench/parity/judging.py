"""Judging many tensors at once: NumPy leaves the interpreter to other threads while it computes."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def judged(judge: Callable[[A], T], items: Iterable[A]) -> list[T]:
    """``judge`` of every item, in their order.

    On as many threads as there are processors. Whatever ``judge`` raises is raised.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(judge, items))
