"""Requests to a contestant's process, and its answers.

A request is answered by the method of ``worker.Worker`` that its ``name`` names, with a value of
the type in brackets, or with a ``WorkerError``.
"""

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from bench.speed.backends.backend import Job
from bench.speed.foreign import Array
from bench.speed.json_form import Json
from bench.speed.reference import ReferenceRequest
from bench.speed.results import Ceiling, Parity
from shared.config import GPTConfig

Answer = TypeVar("Answer")


class Request(Generic[Answer]):
    """Something that a contestant's process is to do."""

    name: ClassVar[str]


@dataclass(frozen=True)
class WorkerError:
    """The one line on what went wrong instead of an answer, and the end of the traceback."""

    message: str
    detail: str


@dataclass(frozen=True)
class Task:
    """One workload; to decode, the prompts and the number of tokens that follow."""

    workload: str
    prompts: Array | None = None
    new_tokens: int = 0


@dataclass(frozen=True)
class Peak:
    """Peak memory in bytes: of the process, and on the device where that is another place."""

    host: int | None = None
    device: int | None = None

    @property
    def bytes(self) -> int | None:
        """The peak where the model is."""
        return self.host if self.device is None else self.device


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """A workload that has been warmed up and checked."""

    first_s: float
    step_s: float
    peak: Peak
    parity: Parity


@dataclass(frozen=True)
class Timed:
    """Seconds a step, and how many cores others kept busy meanwhile."""

    seconds: float
    others_cores: float


@dataclass(frozen=True)
class FirstLoss:
    """Cores that others kept busy since the process began, and whether its first loss is right."""

    others_cores: float
    parity: Parity


@dataclass(frozen=True)
class Make(Request[None]):
    """Build the model from the parameters in a file; ``reference`` is the folder to judge by."""

    name = "make"
    job: Job
    params: str
    batches: str
    reference: str


@dataclass(frozen=True)
class Ready(Request[Readiness]):
    """Warm a workload up, note its memory, and check what it computes."""

    name = "ready"
    task: Task


@dataclass(frozen=True)
class TimeSteps(Request[Timed]):
    """Take one sample, of so many steps."""

    name = "time"
    task: Task
    steps: int


@dataclass(frozen=True)
class ComputeFirstLoss(Request[FirstLoss]):
    """Compute the first loss of a process that has just begun."""

    name = "first"


@dataclass(frozen=True)
class JudgeBy(Request[None]):
    """Take another reference to be judged by from here on."""

    name = "judge_by"
    reference: str


@dataclass(frozen=True)
class ReportState(Request[Json]):
    """Report settings, versions, attention kernel, and the numeric libraries that are loaded."""

    name = "state"


@dataclass(frozen=True)
class ComputeReference(Request[None]):
    """Compute, into a folder, the float64 reference that contestants are judged by."""

    name = "compute_reference"
    request: ReferenceRequest
    params: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class MeasureCeilings(Request[Ceiling]):
    """Measure matrix products, copies and, where ``parts`` are wanted, other parts of a step.

    ``fast`` takes whatever ``tune`` switches on.
    """

    name = "ceilings"
    framework: str
    config: GPTConfig
    batch_size: int
    length: int
    dtype: str
    device: str
    fast: bool
    parts: bool = True
