"""The processes of one run: how many there are, which of them this is, and where they meet.

Read from the environment variables of the launcher: ``torchrun``, or SLURM's ``srun``.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

# Processes of the largest run there can be.
MOST = 1 << 20
# SLURM names no port: take one above those that systems hand out, by the job's number.
_FIRST_PORT, _PORTS = 61440, 4096
# The address that no other host can reach.
LOOPBACK = "127.0.0.1"
# Its network interface, by the name that Linux and macOS give it.
LOOPBACK_INTERFACE = "lo" if sys.platform == "linux" else "lo0"
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Variables of a process that srun started, which a batch script has not.
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")


@dataclass(frozen=True, kw_only=True)
class World:
    """Process number ``rank`` of ``size``, and number ``local_rank`` of its host.

    The process of rank 0 listens at ``host:port``. The default is a world of one process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    host: str = LOOPBACK
    port: int = 29500

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "World":
        """The world that torchrun or, failing that, srun describes; else a world of one.

        Raises ``ValueError`` naming the variable that is missing or wrong.
        """
        if "RANK" in environ or "WORLD_SIZE" in environ:
            return _read(environ, *_TORCHRUN[:3], *_address(environ))
        if all(name in environ for name in _SLURM):
            return _read(environ, *_SLURM[:3], *_meeting_point(environ))
        return cls()


def is_local(host: str) -> bool:
    """Whether ``host`` names this machine alone, so that nobody else need reach a port of it."""
    return host in (LOOPBACK, "localhost")


def first_host(nodes: str) -> str:
    """The first of SLURM's ``nodes``: ``gpu[07-09,12],login`` begins with ``gpu07``."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).partition(",")[0]


def _read(
    environ: Mapping[str, str], rank: str, size: str, local_rank: str, host: str, port: int
) -> World:
    count = _whole(environ, size, 1)
    if count > MOST:
        raise ValueError(f"{size} is {environ[size][:40]!r}: expected {MOST} processes at most")
    return World(
        rank=_whole(environ, rank, 0, count),
        size=count,
        local_rank=_whole(environ, local_rank, 0, count),
        host=host,
        port=port,
    )


def _address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of rank 0 under torchrun."""
    for name in _TORCHRUN:
        if not environ.get(name):
            raise ValueError(
                f"{name} is not set, but others of {', '.join(_TORCHRUN)} are: "
                "start with torchrun, or set all of them"
            )
    return environ["MASTER_ADDR"], _whole(environ, "MASTER_PORT", 1, 1 << 16)


def _meeting_point(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of rank 0 under srun: on the first node, unless the job script sets them."""
    job = _whole(environ, "SLURM_JOB_ID", 0)
    host = environ.get("MASTER_ADDR") or first_host(environ["SLURM_STEP_NODELIST"])
    if "MASTER_PORT" in environ:
        return host, _whole(environ, "MASTER_PORT", 1, 1 << 16)
    return host, _FIRST_PORT + job % _PORTS


def _whole(environ: Mapping[str, str], name: str, least: int, end: int | None = None) -> int:
    """The whole number in ``environ[name]``, from ``least`` up to, not including, ``end``."""
    text = environ.get(name, "")
    value = int(text) if text.isascii() and text.isdecimal() else least - 1
    if value < least or (end is not None and value >= end):
        expected = f"{least} or more" if end is None else f"from {least} to {end - 1}"
        raise ValueError(f"{name} is {text!r}: expected a whole number, {expected}")
    return value
