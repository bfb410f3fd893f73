"""The two sides as values: the same modules under the same names, loaded when asked for."""

import importlib.util
from dataclasses import dataclass
from types import ModuleType

NAMES = ("torch", "jax")
_NEEDS = {"torch": ("torch",), "jax": ("jax", "flax", "optax")}


@dataclass(frozen=True)
class Framework:
    """One framework's half of the project; ``side.gpt2`` is ``torch_impl.gpt2`` or its twin."""

    name: str

    def __getattr__(self, module: str) -> ModuleType:
        if module.startswith("_"):
            raise AttributeError(module)
        return importlib.import_module(f"{self.name}_impl.{module}")


Frameworks = tuple[Framework, Framework]


def installed(name: str) -> bool:
    """Whether the framework ``name`` is installed, found out without importing it."""
    return all(importlib.util.find_spec(package) for package in _NEEDS[name])


def one(name: str) -> Framework:
    """The side called ``name``; ``ValueError`` says what to install."""
    if name not in NAMES:
        raise ValueError(f"unknown framework {name!r}: choose from {', '.join(NAMES)}")
    if not installed(name):
        raise ValueError(f"{name} is not installed: pip install 'twingrad[{name}]'")
    return Framework(name)


def both() -> Frameworks:
    """The PyTorch side and the JAX side; ``ValueError`` says what to install."""
    torch, jax = (one(name) for name in NAMES)
    return torch, jax


def pick_device(device: str, sides: tuple[Framework, ...]) -> str:
    """``device`` as all ``sides`` will name it; ``auto`` is CUDA where all of them see one.

    Raises ``ValueError`` naming the side that does not see the device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}: choose from auto, cpu, cuda")
    without = [side.name for side in sides if "cuda" not in side.runtime.devices()]
    if device == "cuda" and without:
        raise ValueError(
            f"{' and '.join(without)} sees no cuda device here: install 'twingrad[cuda]' on a "
            "machine with an NVIDIA GPU, or use --device cpu"
        )
    if device == "auto":
        return "cpu" if without else "cuda"
    return device
