"""Memory that is freed: kept for the next allocation, where glibc would return it to the kernel."""

import ctypes
import platform

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1  # bytes free at the top of the heap before any are returned: an int's largest


def keep_freed() -> bool:
    """Have glibc keep freed memory for the next allocation; returns whether it does.

    A training step frees and allocates the same hundreds of megabytes again and again. If they are
    returned to the kernel each time, every page is zeroed and faulted in anew. The price is that
    memory once in use stays with the process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One arena for all threads: a thread's own is too small for large blocks, and returns them
    # whatever is set. Threads that already have one keep it, so call this before they start.
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in wanted)
