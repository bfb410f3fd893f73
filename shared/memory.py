"""The memory of this process."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most bytes of memory that this process has had at once.

    On Linux this is ``VmHWM`` of ``/proc/self/status`` (proc_pid_status(5)). ``ru_maxrss``, which
    is read elsewhere, begins on Linux with what the process had that started this one: a run that
    is started from a notebook would be given the notebook's memory. It counts in bytes on macOS
    and in KiB on other systems (getrusage(2)).
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return 1024 * int(value.split()[0])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
