"""The folder in which JAX keeps what it has compiled, so that a second call compiles nothing anew.

An entry is machine code that the next call runs, so the folder is the user's alone. Its name holds
the processor, jaxlib and XLA's flags: code compiled for another processor could crash. Measurements
turn it off, since what compiling costs is among the things they measure.
"""

import hashlib
import os
import platform
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SWITCH = "TWINGRAD_COMPILE_CACHE"  # the variable that turns it off
OFF = ("off", "0", "false", "no")
LIMIT = 256 * 2**20  # bytes of all folders together
# JAX's own variables: whoever has set one of them has made a choice, which stands.
JAX_FOLDER = "JAX_COMPILATION_CACHE_DIR"
JAX_SWITCH = "JAX_ENABLE_COMPILATION_CACHE"


@dataclass(frozen=True)
class CompileCache:
    """Where compiled programs are kept; without a folder, ``reason`` says why they are not."""

    folder: Path | None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """One sentence for a person."""
        if self.folder is None:
            return f"programs that JAX compiles are not kept: {self.reason}"
        turn_off = f"{SWITCH}=off turns it off"
        return f"programs that JAX compiles are kept in {self.folder}; {turn_off}"


def enable() -> CompileCache:
    """Have JAX, once it is imported, keep what it compiles; a folder that is unfit is not used.

    Nothing that is wrong with the folder ends the run: it only makes it slower.
    """
    found = inspect()
    if found.folder is None:
        return found
    if "jax" in sys.modules:
        return CompileCache(None, "JAX was imported before")
    try:
        _make_private(found.folder)
        _prune(root(), LIMIT)
    except OSError as error:
        return CompileCache(None, f"{found.folder}: {error.strerror or error}")
    os.environ[JAX_FOLDER] = str(found.folder)
    # By default JAX keeps only programs that took a second to compile.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    return found


def disable() -> None:
    """Turn it off in this process and in those that it starts, for a measurement."""
    if os.environ.get(JAX_FOLDER, "").startswith(str(root())):
        del os.environ[JAX_FOLDER]
    os.environ[SWITCH] = "off"


def inspect() -> CompileCache:
    """The folder that would be used, or why none would; makes and changes nothing."""
    if os.environ.get(SWITCH, "").lower() in OFF:
        return CompileCache(None, f"{SWITCH} turns it off")
    if os.environ.get(JAX_SWITCH, "").lower() in OFF:
        return CompileCache(None, f"{JAX_SWITCH} turns it off")
    folder = root() / _key()
    chosen = os.environ.get(JAX_FOLDER, "")
    if chosen and chosen != str(folder):
        return CompileCache(None, f"{JAX_FOLDER} names a folder of your own")
    try:
        reason = _unfit(folder)
    except OSError as error:
        reason = f"{folder}: {error.strerror or error}"
    return CompileCache(None, reason) if reason else CompileCache(folder)


def root() -> Path:
    """The folder of every processor's and version's folders, in the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(os.path.expanduser("~"))
    # The XDG specification has a relative path ignored.
    cache = Path(given) if os.path.isabs(given) else home / ".cache"
    return cache / "twingrad" / "compiled"


def size() -> int:
    """Bytes that are kept now."""
    return sum(entry.st_size for _, entry in _entries(root()))


def _key() -> str:
    """A name for the processor, jaxlib and XLA's flags."""
    parts = [platform.machine(), *_processor(), _jaxlib(), os.environ.get("XLA_FLAGS", "")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _jaxlib() -> str:
    try:
        return version("jaxlib")
    except PackageNotFoundError:
        return ""


def _processor() -> list[str]:
    """The processor's model and features, as the kernel has them."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        marks = ("model name", "flags", "Features", "CPU part", "CPU implementer", "isa")
        return sorted({line for line in lines if line.startswith(marks)})
    return [platform.processor()]


def _unfit(folder: Path) -> str:
    """Why others could put code into ``folder``, or redirect it; empty if they cannot."""
    if not hasattr(os, "geteuid"):
        return "who else may write to a folder is not known on this system"
    user = os.geteuid()
    for place in (folder.parent.parent, folder.parent, folder):
        try:
            found = place.lstat()
        except FileNotFoundError:
            break
        if not stat.S_ISDIR(found.st_mode):
            return f"{place} is not a folder: remove it"
        if found.st_uid != user:
            return f"{place} belongs to somebody else: set XDG_CACHE_HOME to a folder of your own"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write to {place}: run chmod 700 {place}"
    for place in folder.parent.parent.resolve().parents:
        with suppress(FileNotFoundError):
            found = place.stat()
            if found.st_uid not in (0, user):
                return f"{place} belongs to somebody else: set XDG_CACHE_HOME to another folder"
            if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                return f"others may rename what is in {place}: set XDG_CACHE_HOME to another folder"
    return ""


def _make_private(folder: Path) -> None:
    """Make ``folder`` and the project's own ones above it, which nobody else can look into."""
    folder.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    for place in (folder.parent.parent, folder.parent, folder):
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        place.chmod(0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to")


def _prune(folder: Path, limit: int) -> None:
    """Remove the oldest entries until half of ``limit`` is left, where there is more than that."""
    entries = sorted(_entries(folder), key=lambda entry: entry[1].st_mtime, reverse=True)
    total = 0
    if sum(found.st_size for _, found in entries) <= limit:
        return
    for path, found in entries:
        total += found.st_size
        if total > limit // 2:
            path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Every file that is kept, without following links."""
    entries: list[tuple[Path, os.stat_result]] = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                path = Path(place, name)
                entries.append((path, path.lstat()))
    return entries
