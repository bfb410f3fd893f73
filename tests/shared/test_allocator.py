"""Freed memory, and whether it is kept."""

import os
import resource

import pytest

from tests.helpers.running import output

glibc = pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="glibc keeps what is freed, if told to",
)


ALLOCATE = """
import resource
import numpy as np
from shared import allocator
kept = [allocator.keep_freed() for _ in range({times})]
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = np.ones(200 << 20, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del held
print(kept, faults)
"""


@pytest.mark.slow("1")
@glibc
@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_is_kept_is_not_faulted_in_again(times):
    kept, _, faults = output(ALLOCATE.format(times=times)).rpartition(" ")
    assert kept == str([True] * times)
    assert int(faults) < (200 << 20) / resource.getpagesize() / 100


def test_where_there_is_no_glibc_nothing_is_kept(monkeypatch):
    from shared import allocator

    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert allocator.keep_freed() is False
