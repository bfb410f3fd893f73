"""Results of both frameworks' trainers: the metrics of a step, and the state to resume from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsFloat

import numpy as np

from shared import threefry
from shared.config import IGNORED, TrainConfig


class Step:
    """One training step: mean loss in nats before the update, gradient norm before clipping.

    Both may still be on a device, where they are being computed: reading one waits for it.
    """

    def __init__(self, loss: SupportsFloat, grad_norm: SupportsFloat):
        self._loss, self._grad_norm = loss, grad_norm

    @cached_property
    def loss(self) -> float:
        """The loss as a number, once it is computed."""
        return float(self._loss)

    @cached_property
    def grad_norm(self) -> float:
        """The gradient's norm as a number, once it is computed."""
        return float(self._grad_norm)

    def __float__(self) -> float:
        return self.loss

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return (self.loss, self.grad_norm) == (other.loss, other.grad_norm)

    def __hash__(self) -> int:
        return hash((self.loss, self.grad_norm))

    def __repr__(self) -> str:
        return f"Step(loss={self.loss}, grad_norm={self.grad_norm})"


@dataclass(frozen=True)
class TrainState:
    """Parameters and AdamW's moments after ``step`` steps, under canonical names.

    A tensor may be read from the disk when it is looked up, so use one at a time.
    """

    step: int
    params: Mapping[str, np.ndarray]
    first_moment: Mapping[str, np.ndarray]
    second_moment: Mapping[str, np.ndarray]


PARTS = ("params", "first_moment", "second_moment")


def counted(targets: np.ndarray) -> int:
    """Number of targets that are not ``IGNORED``."""
    return int((targets != IGNORED).sum())


def check_joined(config: TrainConfig, joined: int) -> None:
    """Raise ``ValueError`` unless ``joined`` is the number of processes of ``config``."""
    if joined != config.processes:
        raise ValueError(
            f"data_parallel {config.data_parallel} times sharded {config.sharded} is "
            f"{config.processes} processes, but {joined} run together: start {config.processes}, "
            "or choose sizes with that product"
        )


def step_keys(seed: int, step: int, micro_batches: int, sites: int) -> np.ndarray:
    """Dropout keys of one step, uint32 [A, S, 2]: micro-batch by micro-batch, layer by layer."""
    return np.stack([threefry.dropout_keys(seed, step, i, sites) for i in range(micro_batches)])
