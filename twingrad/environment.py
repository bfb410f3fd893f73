"""Facts about the machine, the versions and the commit that something was measured with."""

import importlib.util
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

PARENT = Path(__file__).resolve().parents[1]  # the folder that holds the package
# Names the commit where there is no ``.git``.
COMMIT = "TWINGRAD_COMMIT"
NEEDS = {"torch": ("torch",), "jax": ("jax", "flax")}


class Hardware(TypedDict):
    """A machine, as records have it."""

    processor: str
    cores: int | None
    memory_bytes: int
    system: str


class Commit(TypedDict, total=False):
    """A commit, and whether files differ from it; empty outside a checkout of the project."""

    id: str
    dirty: bool


class Environment(TypedDict):
    """Where something was measured, as records have it."""

    device: str
    hardware: Hardware
    versions: dict[str, str]
    commit: Commit


def environment(device: str, versions: Mapping[str, str]) -> Environment:
    """Hardware, versions and commit; ``versions`` are the frameworks'."""
    return {
        "device": device,
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), "numpy": version("numpy"), **versions},
        "commit": commit(),
    }


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of ``packages`` that are installed, found out without importing them."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def require_frameworks(*frameworks: str) -> None:
    """Raise ``ValueError`` with what to install if one of ``frameworks``, or of both, is absent."""
    for framework in frameworks or NEEDS:
        if not installed(framework):
            raise ValueError(f"{framework} is not installed: {install_command(framework)}")


def installed(framework: str) -> bool:
    """Whether a framework can be imported, with the packages that are needed beside it."""
    return all(importlib.util.find_spec(package) for package in NEEDS[framework])


def install_command(*extras: str) -> str:
    """The command that installs these ``extras`` as this package was installed.

    From a checkout its dependencies with those of the workbench, elsewhere the library's.
    """
    root = checkout()
    if root is None:
        return f"pip install 'twingrad[{','.join(extras)}]'"
    here = Path.cwd().resolve() == root
    names = ",".join(dict.fromkeys([*extras, "bench"]))
    return f"pip install -e '.[{names}]'" if here else f"pip install -e '{root}[{names}]'"


def missing_packages(root: Path, extra: str) -> list[str]:
    """Packages of the ``extra`` of the checkout at ``root`` that are not installed."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.split(r"[^\w.-]", text)[0] for text in project["optional-dependencies"][extra]]
    return [name for name in needed if not installed_versions([name])]


@cache
def checkout() -> Path | None:
    """The checkout of the project that this package lies in; None for an installed package."""
    try:
        project = tomllib.loads((PARENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        ours = project["name"] == "twingrad" and (PARENT / "bench" / "cli" / "main.py").is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return PARENT if ours else None


def commit() -> Commit:
    """The commit that this code is of; empty outside a checkout.

    In a copy of the files without ``.git``, the variable ``TWINGRAD_COMMIT`` names it. Raises
    ``ValueError`` where that is no commit.
    """
    root = checkout()
    if root is None:
        return {}
    if not (root / ".git").exists():
        given = os.environ.get(COMMIT)
        if given and not re.fullmatch(r"[0-9a-f]{7,64}", given):
            raise ValueError(
                f"{COMMIT} is {given!r}: expected a commit, 7 or more digits and letters a to f"
            )
        return {"id": given} if given else {}
    try:
        head, changes = (_git(root, *words) for words in (("rev-parse", "HEAD"), ("status", "-s")))
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"id": head, "dirty": bool(changes)}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
