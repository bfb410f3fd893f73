"""What becomes of freed memory: by default glibc gives large blocks back to the kernel at once."""

import ctypes
import platform

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1  # bytes free at the top of the heap before any are returned: an int's largest


def keep_freed() -> bool:
    """Have glibc keep what is freed for the next allocation; whether it could be told to.

    A training step frees and allocates the same hundreds of megabytes again and again. Returned to
    the kernel each time, every page of them is zeroed and faulted in anew. The price is that memory
    once in use stays with the process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One arena for all threads: those of their own are too small for large blocks, and give them
    # back whatever is set. Threads that already have one keep it, so this comes before they start.
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in wanted)
