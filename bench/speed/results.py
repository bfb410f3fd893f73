"""The rows of a benchmark record as dataclasses, and the record itself.

``SpeedRecord.from_json`` and ``to_json`` are the one border to JSON. The record's form is that of
``schema.py``; what follows from its samples is computed in ``derivation.py``.
"""

from dataclasses import dataclass, field
from enum import Enum

from bench.harness.machine import Environment
from bench.speed.json_form import OPTIONAL, Json, decode, encode, json_object

VERSION = "twingrad-bench-1"
# Sizes of which one may grow alone.
AXES = ("batch_size", "length", "n_layers")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Seconds a step, and how many cores others kept busy; ``start`` numbers the process."""

    start: int = 0
    round: int
    seconds: float
    others_cores: float


@dataclass(frozen=True)
class Parity:
    """A parity check: how many tensors were judged, and the worst of them, in units of u."""

    ok: bool
    judged: int
    worst: str
    error_u: float
    limit_u: float

    @property
    def error_ratio(self) -> float:
        """The worst error as a multiple of its limit."""
        return self.error_u / max(self.limit_u, 1e-9)


class Outcome(Enum):
    """The state in which a contestant left a workload."""

    TIMED = "timed"
    FAILED_PARITY = "failed parity"
    NOT_REACHED = "not reached"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """An outcome; of a failure, also the message."""

    outcome: Outcome
    message: str = ""

    @property
    def text(self) -> str:
        """The status in words: the message of a failure, else the outcome."""
        return self.message if self.outcome is Outcome.FAILED else self.outcome.value

    @classmethod
    def from_json(cls, value: object, place: str) -> "Status":
        """The status in a record: the words of an outcome, or a failure's message."""
        if not isinstance(value, str):
            raise ValueError(f"{place}: expected a text, got {value!r:.50}")
        for outcome in (Outcome.TIMED, Outcome.FAILED_PARITY, Outcome.NOT_REACHED):
            if value == outcome.value:
                return cls(outcome)
        return cls(Outcome.FAILED, value)

    def to_json(self) -> str:
        """The status as a record has it."""
        return self.text


@dataclass(frozen=True)
class Work:
    """The work of one step or continuation; nothing where it has no meaning."""

    tokens: float | None = field(default=None, metadata=OPTIONAL)
    flops: float | None = field(default=None, metadata=OPTIONAL)
    bytes: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Configuration:
    """The settings that two rows must share for their times to be compared."""

    workload: str
    variant: str
    preset: str
    batch_size: int
    length: int
    n_layers: int
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The times of a row that was timed, its memory, and the rates that follow."""

    median_s: float
    quartile_low_s: float
    quartile_high_s: float
    first_s: float
    step_s: float
    peak_bytes: int | None
    peak_host_bytes: int | None = None
    work: Work
    datasheet_flops_per_s: float | None
    compile_s: float
    tokens_per_s: float | None
    bytes_per_s: float | None
    mfu: float | None
    mfu_datasheet: float | None
    clean: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contestant on one workload: its samples and times, or why there are none."""

    workload: str
    variant: str
    preset: str
    contestant: str
    framework: str
    tier: str
    status: Status
    batch_size: int
    length: int
    n_layers: int
    dtype: str
    about: Json
    state: Json
    parity: Parity | None
    samples: tuple[Sample, ...]
    samples_s: tuple[float, ...]
    timing: Timing | None = None

    @property
    def configuration(self) -> Configuration:
        """The settings that other rows must share to be compared with this one."""
        return _configuration(self)

    @property
    def description(self) -> str:
        """The contestant in a few words."""
        return str(self.about.get("about", ""))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the contestant's framework and libraries."""
        versions = self.state.get("versions", {})
        return {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}

    @property
    def on_ladder(self) -> bool:
        """Whether the contestant is one of those with one setting more than the one before."""
        return self.tier == "ladder"

    @property
    def axis(self) -> str:
        """The size that the row's variant varies: ``length 512`` varies ``length``."""
        return self.variant.partition(" ")[0]

    @property
    def title(self) -> str:
        """Contestant and workload, as a message names them."""
        return f"{self.contestant}, {self.workload} {self.variant} {self.preset}".strip()

    @classmethod
    def from_json(cls, value: object, place: str) -> "Result":
        """A row of a record; its parity check and times are where there are any."""
        row = json_object(value, place)
        parity = json_object(row.get("parity"), f"{place}/parity")
        judged = decode(Parity, parity, f"{place}/parity") if "worst" in parity else None
        timing = decode(Timing, row, place) if "median_s" in row else None
        result = decode(cls, row, place, parity=judged, timing=timing)
        if result.status.outcome is Outcome.TIMED and (timing is None or judged is None):
            raise ValueError(f"{place}: it is timed, but has no median or no parity check")
        return result

    def to_json(self) -> Json:
        """The row as a record has it: times stand beside the rest."""
        content = encode(self)
        if self.parity is None:
            content["parity"] = {"ok": False, "reason": self.status.message or None}
        return {key: value for key, value in content.items() if key != "timing"} | (
            encode(self.timing) if self.timing else {}
        )


@dataclass(frozen=True)
class Ratio:
    """The ratio of two contestants' medians, with its interval."""

    numerator: str
    denominator: str
    workload: str
    variant: str
    preset: str
    batch_size: int
    length: int
    n_layers: int
    dtype: str
    ratio: float
    low: float
    high: float

    @property
    def configuration(self) -> Configuration:
        """The settings that the rows of the two contestants share."""
        return _configuration(self)


def _configuration(row: Result | Ratio) -> Configuration:
    return Configuration(
        workload=row.workload,
        variant=row.variant,
        preset=row.preset,
        batch_size=row.batch_size,
        length=row.length,
        n_layers=row.n_layers,
        dtype=row.dtype,
    )


@dataclass(frozen=True)
class Growth:
    """A contestant's step time against one size that was varied alone: the exponent and its R²."""

    contestant: str
    axis: str
    sizes: tuple[float, ...]
    median_s: tuple[float, ...]
    exponent: float
    r_squared: float


@dataclass(frozen=True)
class Product:
    """The rate of a matrix product alone: best and median of its repeats."""

    name: str
    shape: tuple[int, ...]
    flops_per_s: float
    median_flops_per_s: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Part:
    """The rate of another part of a step, forward and backward together."""

    name: str
    elements: int
    elements_per_s: float


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The rates that one framework reaches on matrix products, other parts and copies alone."""

    framework: str
    fast: bool
    products: tuple[Product, ...]
    parts: tuple[Part, ...] = ()
    copy_bytes_per_s: float


class SkipReason(Enum):
    """Why a stage has no results."""

    BUDGET = "budget"
    NO_CONTESTANT = "no contestant"
    REFERENCE_FAILED = "reference failed"


@dataclass(frozen=True)
class Skipped:
    """A stage without results; a record has the reason in words alone."""

    stage: str
    why: str
    reason: SkipReason | None = None

    @classmethod
    def from_json(cls, value: object, place: str) -> "Skipped":
        """The stage and the words."""
        return decode(cls, value, place, reason=None)

    def to_json(self) -> Json:
        """The stage and the words."""
        return {"stage": self.stage, "why": self.why}


@dataclass(frozen=True, kw_only=True)
class Method:
    """How samples were taken and intervals computed."""

    formula: str
    quiet_cores: float
    starts: int | None = field(default=None, metadata=OPTIONAL)
    resampled: int | None = field(default=None, metadata=OPTIONAL)
    covered: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class SpeedRecord:
    """All that one call of ``twingrad bench`` measured."""

    schema: str = VERSION
    environment: Environment
    asked: Json
    method: Method
    seconds: float
    interrupted: bool
    skipped: tuple[Skipped, ...]
    ceilings: tuple[Ceiling, ...]
    clocks: tuple[Json, ...]
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...]
    growth: tuple[Growth, ...]

    @property
    def ok(self) -> bool:
        """Whether there are results, and every contestant was timed."""
        judged = all(one.reason is not SkipReason.REFERENCE_FAILED for one in self.skipped)
        return judged and bool(self.results) and all(row.timing for row in self.results)

    @classmethod
    def from_json(cls, value: object) -> "SpeedRecord":
        """A record from its JSON form; ``ValueError`` names what is wrong in it."""
        return decode(cls, value)

    def to_json(self) -> Json:
        """The record's JSON form."""
        return encode(self)
