"""The interface of a backend, and the job that it is made for.

A backend is a class called ``Backend`` in a module of this package, or in a Python file of the
user's; ``Racer``, its older name, is accepted there too.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.speed.contestants import BACKENDS, CHECKOUT, Contestant
from bench.speed.foreign import Array, Batch, Loss
from bench.speed.json_form import Json
from shared.config import AdamWConfig, GPTConfig, OptimizerConfig
from shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program for one contestant: the sizes, the dtype and the device.

    ``program`` is ``gpt2``, with a ``config`` and an ``AdamWConfig``, or a small one with SGD's.
    """

    contestant: Contestant
    program: str = "gpt2"
    config: GPTConfig = field(default_factory=GPTConfig)
    optimizer: OptimizerConfig
    batch_size: int
    length: int
    dtype: str
    device: str

    @property
    def adamw(self) -> AdamWConfig:
        """The optimizer of GPT-2; ``TypeError`` if it is another one."""
        if not isinstance(self.optimizer, AdamWConfig):
            raise TypeError(f"GPT-2 is trained by AdamW, not by {type(self.optimizer).__name__}")
        return self.optimizer


class Backend(Protocol):
    """A model in training; a method returns when it is done, or is waited for by ``wait``."""

    def __init__(self, job: Job, params: Params): ...

    def put(self, inputs: Array, targets: Array) -> Batch:
        """A batch [B, T] where the contestant wants it."""

    def forward(self, batch: Batch) -> Loss:
        """The loss."""

    def forward_backward(self, batch: Batch) -> Loss:
        """The loss, with gradients."""

    def train(self, batch: Batch) -> Loss:
        """The loss, and one update."""

    def wait(self, loss: Loss) -> float:
        """The loss as a number, once all that was begun is done."""

    def gradients(self) -> Params:
        """The gradients of the last ``forward_backward``, under canonical names."""

    def first_step(self, batch: Batch) -> tuple[float, Params, bool]:
        """One update: the loss, the gradients, and whether these are clipped ones."""

    def reset(self, params: Params) -> None:
        """Back to ``params``, with an optimizer that has taken no step."""

    def decode(self, prompts: Array, new_tokens: int) -> Array:
        """Greedy continuations [B, N]."""

    def state(self) -> Json:
        """Precision, threads, versions, and the attention kernel that ran."""


class Scanning(Backend, Protocol):
    """A backend that takes several steps in one program, for a ``dispatch`` that is not 1."""

    def train_several(self, batches: list[Batch]) -> list[Loss]:
        """One update a batch, in their order; the losses."""


def write_batches(path: Path, batches: Sequence[tuple[Array, ...]]) -> None:
    """Write batches where every contestant reads them."""
    flat = {
        f"{number} {place}": np.asarray(array, order="C")
        for number, batch in enumerate(batches)
        for place, array in enumerate(batch)
    }
    save_file(flat, path)


def read_batches(path: str) -> list[tuple[Array, ...]]:
    """The batches that ``write_batches`` wrote."""
    flat = {tuple(map(int, name.split())): array for name, array in load_file(path).items()}
    batches: dict[int, tuple[Array, ...]] = {}
    for number, place in sorted(flat):
        batches[number] = (*batches.get(number, ()), flat[number, place])
    return list(batches.values())


def make(job: Job, params: Params) -> Backend:
    """The backend of the job's contestant, with its model."""
    if job.program != "gpt2":
        module = _module(f"{job.contestant.framework}_small")
    else:
        module = load(job.contestant)
    # A file of the user's may have both, where it imports ``Backend`` to inherit from.
    kind = getattr(module, "Racer", None) or module.Backend
    backend: Backend = kind(job, params)
    return backend


def load(contestant: Contestant) -> ModuleType:
    """The module that runs ``contestant``."""
    if contestant.backend != CHECKOUT:
        return _module(BACKENDS[contestant.backend].name)
    path = Path(str(contestant.path))
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.speed.backends.{name}")
