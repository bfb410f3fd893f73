"""Environment variables with which JAX cannot start, found out before they could end a command.

XLA ends the process that it is in where it does not know one of its flags, with status 1, which
from a command means that something was compared and differs.
"""

import os
import re
import subprocess
import sys
from collections.abc import MutableMapping

from twingrad.environment import installed

FLAGS, PLATFORMS = "XLA_FLAGS", "JAX_PLATFORMS"
# The flags with which JAX has started, for the processes that this one starts.
_TRIED = "TWINGRAD_TRIED_XLA_FLAGS"
_START = "import jax; jax.devices()"
_TIMEOUT_S = 120.0
# An error, or what ended the process, in the log of a C++ library.
_LOGGED = re.compile(r"[EF]\d{4} [^]]*\] ")


def require_known_flags(environment: MutableMapping[str, str]) -> None:
    """Raise ``ValueError`` where XLA does not know a flag of ``environment``.

    Has another process start JAX on the CPU, which takes a second, where there are flags and JAX
    is not loaded here already.
    """
    flags = environment.get(FLAGS, "")
    if not flags.strip() or environment.get(_TRIED) == flags:
        return
    if "jax" in sys.modules or not installed("jax"):
        return
    tried = subprocess.run(
        [sys.executable, "-c", _START],
        env={**environment, PLATFORMS: "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
    )
    if tried.returncode:
        reason = _reason(tried.stderr)
        raise ValueError(f"JAX cannot start with {FLAGS}={flags}: {reason}; correct or unset it")
    environment[_TRIED] = flags


def _reason(text: str) -> str:
    """XLA's first error in what a process wrote, or its last line; XLA may list all flags below."""
    lines = text.strip().splitlines() or ["no reason given"]
    errors = [line.partition("] ")[2] for line in lines if _LOGGED.match(line)]
    return (errors or lines[-1:])[0].rstrip(".")


def advice(text: str) -> str:
    """What to do about an error whose traceback ``text`` shows that JAX could not start."""
    platforms = os.environ.get(PLATFORMS, "")
    if not platforms or "xla_bridge.py" not in text:
        return ""
    return f"JAX cannot start with {PLATFORMS}={platforms}: correct or unset it, or see doctor"
