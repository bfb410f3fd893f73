"""Facts about this installation that need no framework: versions, devices, memory, caches."""

import getpass
import os
import platform
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from twingrad.environment import checkout, installed_versions, processor

NAMES = {
    "torch": "PyTorch",
    "jax": "JAX",
    "jaxlib": "jaxlib",
    "flax": "Flax",
    "optax": "Optax",
    "numpy": "NumPy",
    "python": "Python",
}
EXTRAS = {
    "": "the library",
    "torch": "PyTorch",
    "jax": "JAX",
    "convert": "twingrad convert",
    "bench": "built-in programs",
    "text": "GPT-2's tokenizer",
    "hub": "released checkpoints",
    "tensorboard": "train --tensorboard",
}
# Variables that change what a framework computes with, where, or how fast.
_VARIABLES = re.compile(
    r"(JAX|XLA|TORCH|TORCHINDUCTOR|PYTORCH|OMP|MKL|KMP|CUDA|CUBLAS|CUDNN|NCCL|GLOO|TWINGRAD)_\w+"
    r"|NVIDIA_TF32_OVERRIDE|THP_MEM_ALLOC_ENABLE|HF_HOME|HF_HUB_OFFLINE|TIKTOKEN_CACHE_DIR|XDG_CACHE_HOME"
    r"|LD_PRELOAD|CC|CXX|NPROC"
)
_DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Package:
    """A package, what it is for, the version that is installed, and the range that works."""

    name: str
    purpose: str
    installed: str | None
    wanted: str
    fits: bool


@dataclass(frozen=True)
class CacheFolder:
    """A folder in which something is kept between calls; ``files`` is None where there is none."""

    purpose: str
    path: Path
    files: int | None
    size_bytes: int


def own_version() -> str:
    """The version of this package, from the checkout where it lies in one."""
    if (root := checkout()) is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"])
    try:
        return version("twingrad")
    except PackageNotFoundError:
        return "unknown"


@cache
def requirements(extra: str) -> tuple[Requirement, ...]:
    """What ``extra`` requires, or with "" the library itself."""
    root = checkout()
    if root is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
        return tuple(map(Requirement, texts))
    try:
        found = [Requirement(text) for text in requires("twingrad") or ()]
    except PackageNotFoundError:
        return ()
    if not extra:
        return tuple(one for one in found if one.marker is None)
    return tuple(one for one in found if one.marker and one.marker.evaluate({"extra": extra}))


def packages() -> Iterator[Package]:
    """Every package of every extra but ``test``, once; the workbench's in a checkout alone."""
    wanted = list(EXTRAS) if checkout() else ["", "torch", "jax"]
    seen = {"editables"}  # of an editable install
    for extra in wanted:
        for requirement in requirements(extra):
            if requirement.name in seen:
                continue
            seen.add(requirement.name)
            found = installed_versions([requirement.name]).get(requirement.name)
            yield Package(
                name=requirement.name,
                purpose=EXTRAS[extra],
                installed=found,
                wanted=str(requirement.specifier) or "any",
                fits=found is not None and requirement.specifier.contains(found, prereleases=True),
            )


def gpus() -> list[str]:
    """Models of the GPUs that NVIDIA's driver has, read from its files: this cannot hang."""
    models = []
    for path in sorted(_DRIVER.glob("*/information")):
        try:
            found = re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        models.append(found[1].strip() if found else "NVIDIA GPU")
    return models or ["NVIDIA GPU" for _ in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def devices_here() -> str:
    """The processor and the GPUs, as the system and NVIDIA's driver have them."""
    models = gpus()
    named = [f"{models.count(model)} x {model}" for model in dict.fromkeys(models)]
    cpu = f"{processor()}, {cores()} cores"
    return "; ".join([cpu, *named] if named else [cpu, "no NVIDIA GPU"])


def cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[int, int | None]:
    """The machine's memory in bytes, and how much of it is available; None where not known."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return total, None
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return total, int(found[1]) * 1024 if found else None


def variables() -> dict[str, str]:
    """The environment variables that are set and matter to a framework."""
    return {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call on a CPU, with its version; None if none."""
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        return None
    try:
        command = [path, "-dumpfullversion"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return path
    return f"{path} {done.stdout.strip()}".strip()


def caches(jax_folder: str | Path | None) -> list[CacheFolder]:
    """The folders that calls keep things in; ``jax_folder`` is that of JAX's compilations."""
    home, temporary = Path.home(), Path(tempfile.gettempdir())
    inductor = os.environ.get(
        "TORCHINDUCTOR_CACHE_DIR", str(temporary / f"torchinductor_{getpass.getuser()}")
    )
    hub = os.environ.get("HF_HOME", str(home / ".cache" / "huggingface"))
    tiktoken = os.environ.get("TIKTOKEN_CACHE_DIR", str(temporary / "data-gym-cache"))
    folders = [
        ("torch.compile's programs", inductor),
        ("released checkpoints", hub),
        ("GPT-2's tokenizer", tiktoken),
    ]
    if jax_folder:
        folders.insert(0, ("JAX's compiled programs", str(jax_folder)))
    return [_cache_folder(purpose, Path(path)) for purpose, path in folders]


def _cache_folder(purpose: str, path: Path) -> CacheFolder:
    if not path.is_dir():
        return CacheFolder(purpose, path, None, 0)
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue  # gone since it was listed
            files += 1
    return CacheFolder(purpose, path, files, size)


def system() -> str:
    """The operating system and Python."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{platform.system()} {platform.release()} {platform.machine()}, {python}"
