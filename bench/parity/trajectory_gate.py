"""The trajectory gate: metrics of a training run, step by step."""

import numpy as np

from bench.harness.training_steps import STEP_METRICS, StepMetrics
from twingrad import numerics
from twingrad.outcome import Gate


def float64_limits(metrics: StepMetrics) -> StepMetrics:
    """The limit of every metric where the frameworks are compared with one another, in u."""
    limit = numerics.FLOAT64_TRAJECTORY_RELATIVE / numerics.UNIT_ROUNDOFF["float64"]
    return {name: np.full(len(values), limit) for name, values in metrics.items()}


def envelope(metrics: StepMetrics, neighbours: list[StepMetrics], dtype: str) -> StepMetrics:
    """The limit of every metric by how far runs depart whose starts were one ulp away, in u."""
    return {
        name: numerics.envelope(values, np.stack([run[name] for run in neighbours]), dtype)
        for name, values in metrics.items()
    }


def judge_training(
    runs: tuple[StepMetrics, StepMetrics, StepMetrics, StepMetrics], steps: int, dtype: str
) -> Gate:
    """Every metric at every step: PyTorch's, JAX's, the oracle's, and its limit."""
    verdicts = []
    for step in range(steps):
        for name in runs[0]:
            torch, jax, truth, limit = (float(run[name][step]) for run in runs)
            label, kind = f"{name}[{step}]", STEP_METRICS[name]
            verdict = numerics.judge_step(label, kind, torch, jax, truth, limit, dtype)
            verdicts.append(verdict)
    return Gate(name="trajectory", tensors=verdicts)
