"""What is missing or wrong in an installation, each with what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from twingrad.doctor.installation import NAMES, Package
from twingrad.doctor.probe import Answer
from twingrad.environment import NEEDS, install_command

# Versions of jaxlib that compile the float32 scatter-add of an embedding's gradient to a slow loop
# on GPUs: openxla/xla issue 46225.
_SLOW_SCATTER = (Version("0.10.2"), Version("0.11.0"))
_SCATTER_FIXED = "0.11.1"


@dataclass(frozen=True)
class Problem:
    """Something missing or wrong, and what to do; ``blocks`` if what was asked for needs it."""

    what: str
    fix: str
    blocks: bool = False


@dataclass(frozen=True, kw_only=True)
class Examined:
    """All that was found out: ``answers`` are those of the frameworks that are installed.

    ``asked`` are the frameworks that have to work, by name; none means that one of them has to.
    """

    packages: Sequence[Package]
    answers: Mapping[str, Answer]
    asked: Sequence[str]
    device: str
    gpus: Sequence[str]
    compiler: str | None
    variables: Mapping[str, str]
    checkout: bool

    @property
    def wanted(self) -> Sequence[str]:
        """The frameworks whose problems count: those asked for, else all that are installed."""
        return self.asked or list(self.answers)


def find(examined: Examined) -> list[Problem]:
    """Every problem, those that block first."""
    found = [
        *_absent_frameworks(examined),
        *_packages(examined),
        *_answers(examined),
        *_devices(examined),
        *_known_bad(examined),
        *_settings(examined),
        *_workbench(examined),
    ]
    return sorted(found, key=lambda problem: not problem.blocks)


def _absent_frameworks(examined: Examined) -> Iterator[Problem]:
    absent = [name for name in ("torch", "jax") if name not in examined.answers]
    if len(absent) == 2 and not examined.asked:
        yield Problem("neither framework is installed", install_command(*absent), blocks=True)
        return
    for name in absent:
        about = f"{NAMES[name]} is not installed{_in_part(examined, name)}"
        if name in examined.asked:
            yield Problem(about, install_command(name), blocks=True)
        else:
            yield Problem(f"{about}: compare and diagnose need both", install_command(name))


def _in_part(examined: Examined, framework: str) -> str:
    """Which package a framework lacks, where others of its packages are there."""
    found = {package.name: package.installed for package in examined.packages}
    here = [name for name in NEEDS[framework] if found.get(name)]
    lacking = [name for name in NEEDS[framework] if not found.get(name)]
    return f" completely ({here[0]} is there, {lacking[0]} is not)" if here and lacking else ""


def _packages(examined: Examined) -> Iterator[Problem]:
    of = {"PyTorch": "torch", "JAX": "jax"}
    for package in examined.packages:
        if package.installed is None or package.fits:
            continue
        framework = of.get(package.purpose)
        yield Problem(
            f"{package.name} is {package.installed}, outside {package.wanted}",
            f"pip install '{package.name}{package.wanted}'",
            blocks=framework in examined.wanted or package.purpose == "the library",
        )


def _answers(examined: Examined) -> Iterator[Problem]:
    for name, answer in examined.answers.items():
        if "error" not in answer:
            continue
        fix = f"install it anew: {install_command(name)}"
        if answer.get("timed_out"):
            without = "CUDA_VISIBLE_DEVICES=" if name == "torch" else "JAX_PLATFORMS=cpu"
            fix = (
                "see whether nvidia-smi answers, or leave the GPU out: "
                f"{without} twingrad doctor; --timeout gives it longer"
            )
        blocks = name in examined.wanted
        yield Problem(f"{NAMES[name]} cannot be used: {answer['error']}", fix, blocks)


def _devices(examined: Examined) -> Iterator[Problem]:
    for name, answer in examined.answers.items():
        devices = answer.get("devices")
        if devices is None:
            continue
        for device in devices:
            if device["error"] and examined.device in ("auto", device["device"].split(":")[0]):
                yield Problem(
                    f"{NAMES[name]} cannot compute on {device['device']}: {device['error']}",
                    "see whether nvidia-smi answers, and whether its driver is new enough for "
                    "this build",
                    blocks=name in examined.wanted,
                )
        if any(device["device"].startswith("cuda") for device in devices):
            continue
        asked = examined.device == "cuda"
        if examined.gpus:
            yield Problem(
                f"{NAMES[name]} does not see the GPU that the driver has",
                install_command("cuda"),
                blocks=asked and name in examined.wanted,
            )
        elif asked and name in examined.wanted:
            yield Problem(
                f"{NAMES[name]} sees no GPU, and NVIDIA's driver none either",
                "use a machine with an NVIDIA GPU and its driver, or --device cpu",
                blocks=True,
            )


def _known_bad(examined: Examined) -> Iterator[Problem]:
    found = {package.name: package.installed for package in examined.packages}
    devices = examined.answers.get("jax", {}).get("devices") or []
    on_gpu = any(device["device"].startswith("cuda") for device in devices)
    version = found.get("jaxlib")
    if not on_gpu or version is None:
        return
    first, last = _SLOW_SCATTER
    if first <= Version(version) <= last:
        yield Problem(
            f"jaxlib {version} computes the gradient of embeddings slowly on GPUs, where XLA makes "
            "a loop of a float32 scatter-add",
            f"pip install 'jax[cuda13]>={_SCATTER_FIXED}'",
        )


def _settings(examined: Examined) -> Iterator[Problem]:
    changed = {
        "NVIDIA_TF32_OVERRIDE": "overrides the precision that each command sets",
        "JAX_DISABLE_JIT": "has JAX compile nothing",
        "TORCHDYNAMO_DISABLE": "has torch.compile compile nothing",
    }
    for name, effect in changed.items():
        if name in examined.variables:
            yield Problem(f"{name}={examined.variables[name]} {effect}", f"unset {name}")
    if "torch" in examined.answers and examined.compiler is None:
        yield Problem(
            "no C++ compiler: torch.compile on a CPU needs one (train --compile, bench)",
            "install g++ (apt-get install g++), or name another by CXX",
        )


def _workbench(examined: Examined) -> Iterator[Problem]:
    if not examined.checkout:
        return
    missing: dict[str, list[str]] = {}
    for package in examined.packages:
        if package.installed is None and package.purpose not in ("PyTorch", "JAX"):
            missing.setdefault(package.purpose, []).append(package.name)
    extras = {
        "twingrad convert": "convert",
        "built-in programs": "bench",
        "GPT-2's tokenizer": "text",
        "released checkpoints": "hub",
        "train --tensorboard": "tensorboard",
    }
    for purpose, names in missing.items():
        extra = extras.get(purpose)
        yield Problem(
            f"{', '.join(names)} not installed, for {purpose}",
            install_command(*([extra] if extra else [])),
        )
