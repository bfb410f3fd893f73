"""The learning rate as one pure function of the step, read by both sides."""

from typing import Any

import numpy as np

from shared.config import AdamWConfig, OptimizerConfig


def learning_rate(step: Any, config: OptimizerConfig, xp: Any = np) -> Any:
    """Learning rate of step ``step``, counted from 0: linear warm-up, then a cosine.

    ``xp`` is the array module that computes it: NumPy for a Python step, ``jax.numpy`` for a traced
    one. Step 0 already moves (its rate is ``1 / warmup_steps`` of the peak), which settles the
    off-by-one between a scheduler that steps before the optimizer and one that steps after.
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
