"""What both sides' trainers hand out: a step's figures, and the state that a run goes on from."""

from dataclasses import dataclass

import numpy as np

from shared import random
from shared.config import IGNORED
from shared.params import Params


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step: mean loss in nats before the update, gradient norm before clipping."""

    loss: float
    grad_norm: float


@dataclass(frozen=True)
class TrainState:
    """All that a training run has computed, under canonical names, after ``step`` steps."""

    step: int
    params: Params
    first_moment: Params
    second_moment: Params


def counted(targets: np.ndarray) -> int:
    """How many targets are not ``IGNORED``: what a summed loss is divided by, 1 at least."""
    return max(int((targets != IGNORED).sum()), 1)


def step_keys(seed: int, step: int, micro_batches: int, sites: int) -> np.ndarray:
    """Dropout keys of one step, uint32 [A, S, 2]: micro-batch by micro-batch, layer by layer."""
    return np.stack([random.dropout_keys(seed, step, i, sites) for i in range(micro_batches)])
