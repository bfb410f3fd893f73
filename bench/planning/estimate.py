"""Estimates of a step on a GPU that was not measured: whether it fits, and tokens/s at an MFU."""

from dataclasses import dataclass

from bench.planning import timing
from bench.planning.datasheets import Datasheet
from bench.planning.step_plan import StepPlan, Variant


@dataclass(frozen=True)
class Assumptions:
    """A GPU's datasheet, and the share of its peak that the arithmetic is taken to reach."""

    datasheet: Datasheet
    mfu: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One framework's tensors against the GPU's memory, and its time at the MFU.

    ``fits`` leaves out what the framework itself holds, which has not been measured on a GPU.
    """

    fits: bool
    step_s: float
    tokens_per_s: float


def estimate(plan: StepPlan, tensor_bytes: int, assumed: Assumptions) -> Estimate:
    """The estimate of ``plan`` on every one of its devices.

    MFU counts the arithmetic of a step once, whatever is recomputed. The exchange is left out.
    """
    flops = sum(timing.arithmetic(plan, Variant(False, False, 0)).values())
    peak = assumed.datasheet.flops_per_s[plan.train.dtype]
    step_s = flops / (assumed.mfu * peak)
    return Estimate(
        fits=tensor_bytes <= assumed.datasheet.memory_bytes,
        step_s=step_s,
        tokens_per_s=plan.train.batch_size * plan.length / step_s,
    )
