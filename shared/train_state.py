"""What both sides' trainers hand out: a step's figures, and the state that a run goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared import threefry
from shared.config import IGNORED, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step: mean loss in nats before the update, gradient norm before clipping."""

    loss: float
    grad_norm: float


@dataclass(frozen=True)
class TrainState:
    """All that a training run has computed, under canonical names, after ``step`` steps.

    A value may be read from the disk when it is asked for: nobody asks for two at a time.
    """

    step: int
    params: Mapping[str, np.ndarray]
    first_moment: Mapping[str, np.ndarray]
    second_moment: Mapping[str, np.ndarray]


PARTS = ("params", "first_moment", "second_moment")


def counted(targets: np.ndarray) -> int:
    """How many targets are not ``IGNORED``."""
    return int((targets != IGNORED).sum())


def check_joined(config: TrainConfig, joined: int) -> None:
    """Raise ``ValueError`` unless as many processes have joined as ``config`` lays out."""
    if joined != config.processes:
        raise ValueError(
            f"data_parallel {config.data_parallel} times sharded {config.sharded} is "
            f"{config.processes} processes, but {joined} run together: start {config.processes}, "
            "or choose a layout of that many"
        )


def step_keys(seed: int, step: int, micro_batches: int, sites: int) -> np.ndarray:
    """Dropout keys of one step, uint32 [A, S, 2]: micro-batch by micro-batch, layer by layer."""
    return np.stack([threefry.dropout_keys(seed, step, i, sites) for i in range(micro_batches)])
