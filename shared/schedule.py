"""The learning rate as one pure function of the step, for both frameworks."""

from types import ModuleType

import numpy as np

from shared.arrays import AnyArray
from shared.config import AdamWConfig, OptimizerConfig


def learning_rate(step: AnyArray, config: OptimizerConfig, xp: ModuleType = np) -> AnyArray:
    """Learning rate of step ``step``, counted from 0: linear warm-up, then a cosine.

    Cosine without restarts: Loshchilov and Hutter, SGDR, 2017. ``xp`` is the array module that
    computes it: NumPy for a Python step, ``jax.numpy`` for a traced one. Step 0 already has
    ``1 / warmup_steps`` of the peak, where schedulers differ by one step.
    """
    if not isinstance(config, AdamWConfig):
        return config.learning_rate
    # An int32 counter divided by an integer is float32 in JAX, even with x64 on.
    step = xp.asarray(step, dtype=float)
    peak, floor = config.learning_rate, config.min_learning_rate
    warmup = peak * (step + 1) / max(config.warmup_steps, 1)
    progress = (step - config.warmup_steps) / (config.total_steps - config.warmup_steps)
    cosine = floor + 0.5 * (peak - floor) * (1 + xp.cos(xp.pi * xp.clip(progress, 0.0, 1.0)))
    return xp.where(step < config.warmup_steps, warmup, cosine)
