"""The two frameworks as values: modules of the same names, and methods for what differs."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Protocol

from bench.harness.foreign import Array, Gradients, Model, Native, Tensor, TensorFn
from bench.harness.jax_framework import JaxFramework
from bench.harness.torch_framework import TorchFramework
from bench.harness.twin_modules import (
    DistributedModule,
    DropoutModule,
    GenerateModule,
    Gpt2Module,
    LossModule,
    OptimModule,
    ParamsModule,
    Runtime,
    RuntimeModule,
    SigmoidBceModule,
    SimpleNetModule,
    TraceModule,
    TrainModule,
)
from shared.config import GPTConfig
from shared.params import Params
from twingrad.environment import install_command

NAMES = ("torch", "jax")
CHOICES = (*NAMES, "both")
DEVICES = ("auto", "cpu", "cuda")
_NEEDS = {"torch": ("torch",), "jax": ("jax", "flax", "optax")}
_ADAPTERS: dict[str, Callable[[], "Framework"]] = {"torch": TorchFramework, "jax": JaxFramework}


class Framework(Protocol):
    """One framework's half of the project: ``framework.gpt2`` is ``torch_impl.gpt2`` or its twin.

    A module is imported when it is asked for, and looked up anew each time: a bug may have been
    planted in it since.
    """

    @property
    def name(self) -> str: ...
    def __hash__(self) -> int: ...
    @property
    def gpt2(self) -> Gpt2Module: ...
    @property
    def sigmoid_bce(self) -> SigmoidBceModule: ...
    @property
    def simple_net(self) -> SimpleNetModule: ...
    @property
    def params(self) -> ParamsModule: ...
    @property
    def runtime(self) -> RuntimeModule: ...
    @property
    def train(self) -> TrainModule: ...
    @property
    def loss(self) -> LossModule: ...
    @property
    def dropout(self) -> DropoutModule: ...
    @property
    def optim(self) -> OptimModule: ...
    @property
    def generate(self) -> GenerateModule: ...
    @property
    def trace(self) -> TraceModule: ...
    @property
    def distributed(self) -> DistributedModule: ...
    @property
    def tensors(self) -> ModuleType: ...

    def make_gpt2(
        self, config: GPTConfig, *, attention: str = "fused_attention", recompute: bool = False
    ) -> Model:
        """A GPT-2 as it describes itself, without parameters yet; ``params.build`` fills it."""

    def make_simple_net(self) -> Model:
        """A ``SimpleNet`` without parameters yet."""

    def export_gradients(self, model: Model, gradients: Gradients) -> Params:
        """Gradients as the framework holds them, in NumPy under canonical names."""

    def trainer_gradients(
        self, trainer: Native, inputs: Array, targets: Array
    ) -> tuple[float, Params]:
        """The loss and the gradients by which ``trainer`` would step."""

    def set_dropout_keys(self, model: Model, keys: Array) -> None:
        """Seed the dropout layers of ``model`` with ``keys``, uint32 [S, 2]."""

    def gradient(self, loss: TensorFn, x: Tensor) -> Array:
        """The gradient of the scalar ``loss(x)`` at ``x``."""

    def one_thread(self) -> AbstractContextManager[None]:
        """Within, compute in the calling thread alone where the framework can."""

    def decoder(self, model: Model, runtime: Native, cache: Native) -> TensorFn:
        """Decode one step over ``cache``, which is kept: (tokens, positions, last) -> logits."""

    def last_logits(self, model: Model) -> TensorFn:
        """The logits at the last position, by the whole forward pass: (tokens) -> logits."""


Frameworks = tuple[Framework, Framework]

__all__ = [
    "NAMES",
    "Framework",
    "Frameworks",
    "Runtime",
    "agreed_device",
    "both",
    "installed",
    "one",
    "pick_device",
]


def chosen(choice: str) -> tuple[str, ...]:
    """The names of the frameworks that one of ``CHOICES`` stands for."""
    return NAMES if choice == "both" else (choice,)


def installed(name: str) -> bool:
    """Whether the framework ``name`` is installed, without importing it."""
    return all(importlib.util.find_spec(package) for package in _NEEDS[name])


def default_choice() -> str:
    """The one of ``CHOICES`` that stands for what is installed; ``both`` where nothing is."""
    present = [name for name in NAMES if installed(name)]
    return present[0] if len(present) == 1 else "both"


def default_name() -> str:
    """The first framework that is installed; PyTorch where none is."""
    return next(filter(installed, NAMES), NAMES[0])


def one(name: str) -> Framework:
    """The framework called ``name``; ``ValueError`` says what to install."""
    if name not in _ADAPTERS:
        raise ValueError(f"unknown framework {name!r}: choose from {', '.join(NAMES)}")
    if not installed(name):
        raise ValueError(f"{name} is not installed: {install_command(name)}")
    return _ADAPTERS[name]()


def both() -> Frameworks:
    """PyTorch and JAX; ``ValueError`` says what to install, and what works with one of them."""
    present = [name for name in NAMES if installed(name)]
    if len(present) == 1:
        absent = next(name for name in NAMES if name not in present)
        raise ValueError(
            f"{absent} is not installed, and {present[0]} alone has nothing to be compared with: "
            f"{install_command(absent)}; twingrad tensors, train, sample and bench work with one"
        )
    if not present:
        raise ValueError(f"neither framework is installed: {install_command(*NAMES)}")
    torch, jax = (one(name) for name in NAMES)
    return torch, jax


def pick_device(device: str, frameworks: Sequence[Framework]) -> str:
    """``device`` as all ``frameworks`` will name it; ``auto`` is CUDA where all of them see one.

    Raises ``ValueError`` naming the framework that does not see the device.
    """
    return agreed_device(device, lambda: {f.name: f.runtime.devices() for f in frameworks})


def agreed_device(device: str, seen: Callable[[], Mapping[str, Sequence[str]]]) -> str:
    """The same where ``seen`` finds out the devices of each framework by its name.

    It is not called for the CPU, which every framework has.
    """
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}: choose from {', '.join(DEVICES)}")
    if device == "cpu":
        return device
    without = [name for name, devices in seen().items() if "cuda" not in devices]
    if device == "cuda" and without:
        verb = "sees" if len(without) == 1 else "see"
        raise ValueError(
            f"{' and '.join(without)} {verb} no cuda device here: install 'twingrad[cuda]' on a "
            "machine with an NVIDIA GPU, or use --device cpu"
        )
    return "cpu" if without else "cuda"
