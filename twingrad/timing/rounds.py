"""Sample rounds: every contestant one sample in turn, round after round, and their medians.

A slow minute slows all contestants of a round alike. Nothing here knows what is timed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Framework = Literal["torch", "jax"]
Mode = Literal["eager", "compiled"]
Workload = Literal["forward", "forward and backward", "training step"]
FRAMEWORKS: tuple[Framework, ...] = ("torch", "jax")
MODES: tuple[Mode, ...] = ("eager", "compiled")
WORKLOADS: tuple[Workload, ...] = ("forward", "forward and backward", "training step")
# A sample repeats a short step until it takes this long, so that the clock and one interruption
# count for little.
SAMPLE_S = 0.1
# Repetitions of a step in a sample, however short it is.
MOST_STEPS = 1000


@dataclass(frozen=True)
class Task:
    """What one contestant computes."""

    framework: Framework
    mode: Mode
    workload: Workload


@dataclass(frozen=True)
class Ready:
    """A contestant after its warm-up: seconds of its first call and of a later one, and its loss.

    The first call includes compiling. The loss is that of the first call.
    """

    first_s: float
    step_s: float
    loss: float


@dataclass(frozen=True)
class Failed:
    """A contestant that cannot be timed, and why, in one sentence."""

    reason: str


@dataclass(kw_only=True)
class Timed:
    """A contestant with its samples: seconds a step."""

    task: Task
    ready: Ready | Failed
    samples_s: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How often a sample repeats the step."""
        if isinstance(self.ready, Failed):
            return 0
        return int(min(MOST_STEPS, max(1.0, np.ceil(SAMPLE_S / max(self.ready.step_s, 1e-9)))))

    def quantile(self, share: float) -> float:
        """A quantile of the samples; 0.5 is the median."""
        return float(np.quantile(self.samples_s, share))


# (task) -> the contestant warmed up; (task, steps) -> seconds a step
WarmUp = Callable[[Task], Ready | Failed]
Sample = Callable[[Task, int], float]


def tasks(modes: Sequence[Mode], has_optimizers: bool) -> list[Task]:
    """All contestants: those of one workload together, the frameworks in turn."""
    workloads = WORKLOADS if has_optimizers else WORKLOADS[:2]
    return [Task(f, mode, workload) for workload in workloads for mode in modes for f in FRAMEWORKS]


def measure(
    all_tasks: Sequence[Task],
    warm_up: WarmUp,
    sample: Sample,
    rounds: int,
    say: Callable[[str], None],
) -> list[Timed]:
    """Every task warmed up and then timed, ``rounds`` samples each, in turn within its workload."""
    results: list[Timed] = []
    for workload in dict.fromkeys(task.workload for task in all_tasks):
        group: list[Timed] = []
        for task in (task for task in all_tasks if task.workload == workload):
            say(f"{workload}: {task.framework}, {task.mode}, warming up")
            group.append(Timed(task=task, ready=warm_up(task)))
        for number in range(rounds):
            say(f"{workload}: round {number + 1} of {rounds}")
            for timed in turned(group, number):
                if isinstance(timed.ready, Ready):
                    timed.samples_s.append(sample(timed.task, timed.steps))
        results += group
    return results


def turned(group: Sequence[Timed], number: int) -> Iterator[Timed]:
    """The contestants in the order of one round: nobody always follows the same other one."""
    start = number // 2 % len(group)
    order = [*group[start:], *group[:start]]
    yield from order if number % 2 == 0 else reversed(order)
