"""What every racer can do, and what it is given."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.speed.contestants import Contestant
from shared.config import GPTConfig
from shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program for one contestant: which sizes, on which batches, in which dtype.

    ``program`` is ``gpt2``, with a ``config`` and an ``AdamWConfig``, or a small one with SGD's.
    """

    contestant: Contestant
    program: str = "gpt2"
    config: GPTConfig = field(default_factory=GPTConfig)
    optimizer: Any
    batch_size: int
    length: int
    dtype: str
    device: str


class Racer(Protocol):
    """A GPT-2 in training; every method returns when it is done, or is waited for by ``wait``."""

    def __init__(self, job: Job, params: Params): ...

    def put(self, inputs: np.ndarray, targets: np.ndarray) -> Any:
        """A batch [B, T] where the contestant wants it."""

    def forward(self, batch: Any) -> Any:
        """The loss."""

    def forward_backward(self, batch: Any) -> Any:
        """The loss, with gradients."""

    def train(self, batch: Any) -> Any:
        """The loss, and one update."""

    def wait(self, loss: Any) -> float:
        """The loss as a number, once all that was begun is done."""

    def gradients(self) -> Params:
        """The gradients of the last ``forward_backward``, under canonical names."""

    def first_step(self, batch: Any) -> tuple[float, Params, bool]:
        """One update: the loss, the gradients, and whether these are clipped ones."""

    def reset(self, params: Params) -> None:
        """Back to ``params``, with an optimizer that has taken no step."""

    def decode(self, prompts: Sequence[np.ndarray], new_tokens: int) -> np.ndarray:
        """Greedy continuations [B, N]."""

    def state(self) -> dict[str, Any]:
        """Precision, threads, versions, and the attention kernel that ran."""


def write_batches(path: Path, batches: Sequence[tuple[np.ndarray, ...]]) -> None:
    """Write batches where every contestant reads them."""
    flat = {
        f"{number} {place}": np.asarray(array, order="C")
        for number, batch in enumerate(batches)
        for place, array in enumerate(batch)
    }
    save_file(flat, path)


def read_batches(path: str) -> list[tuple[np.ndarray, ...]]:
    """What ``write_batches`` wrote."""
    flat = {tuple(map(int, name.split())): array for name, array in load_file(path).items()}
    found: dict[int, tuple[np.ndarray, ...]] = {}
    for number, place in sorted(flat):
        found[number] = (*found.get(number, ()), flat[number, place])
    return list(found.values())


def make(job: Job, params: Params) -> Racer:
    """The racer of the job's contestant."""
    if job.program != "gpt2":
        module = importlib.import_module(f"bench.speed.backends.{job.contestant.framework}_small")
        return module.Racer(job, params)
    return load(job.contestant).Racer(job, params)


def load(contestant: Contestant) -> Any:
    """The module that runs ``contestant``."""
    if contestant.racer != "checkout":
        return importlib.import_module(f"bench.speed.backends.{contestant.racer}")
    path = Path(str(contestant.path))
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
