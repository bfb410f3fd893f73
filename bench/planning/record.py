"""JSON forms of planning: measured rates, and the record of plans compared with runs."""

from typing import NotRequired, TypedDict, cast

from bench.harness import records


class ProductJson(TypedDict):
    """The rate of one matrix product."""

    name: str
    shape: list[int]
    flops_per_s: float
    median_flops_per_s: float


class PartJson(TypedDict):
    """The rate of what a step does besides products, forward and backward."""

    name: str
    elements: int
    elements_per_s: float


class CeilingsJson(TypedDict):
    """One framework's rates on one machine, as ``bench.speed.ceilings`` measures them."""

    framework: str
    fast: bool
    products: list[ProductJson]
    parts: NotRequired[list[PartJson]]
    copy_bytes_per_s: float


class CeilingsGroupJson(TypedDict):
    """Every framework's rates at one model size."""

    ceilings: list[CeilingsJson]


class HardwareJson(TypedDict):
    """The part of a record's hardware that is read here."""

    processor: str
    cores: int


class EnvironmentJson(TypedDict):
    """The part of a record's environment that is read here."""

    device: str
    hardware: HardwareJson


class RunJson(TypedDict):
    """Dtype and length of a record's runs."""

    dtype: str
    steps: NotRequired[int]


class RatesRecordJson(TypedDict):
    """A record that rates can be taken of: of one size, or of several."""

    environment: EnvironmentJson
    asked: RunJson
    ceilings: NotRequired[list[CeilingsJson]]
    sizes: NotRequired[list[CeilingsGroupJson]]
    floors: NotRequired[dict[str, int]]


class MemoryJson(TypedDict):
    """The planned bytes of one process."""

    state: dict[str, int]
    kept: int
    working: int
    lost: dict[str, int]


class PlannedJson(TypedDict):
    """The planned memory and time of a step, by what they are spent on."""

    memory: MemoryJson
    peak_bytes: int
    seconds: dict[str, float]
    step_s: float


class MeasuredJson(TypedDict):
    """The memory and time of a step in a run."""

    peak_bytes: int
    steps_s: list[float]
    step_s: float


class ErrorsJson(TypedDict):
    """Relative errors of a plan."""

    peak: float
    beyond_floor: float
    step: float


class ComparisonJson(TypedDict):
    """One framework's plan beside its run."""

    framework: str
    planned: PlannedJson
    measured: MeasuredJson
    errors: ErrorsJson
    floor_bytes: NotRequired[int]
    link_bytes_per_s: NotRequired[float]


class SizeJson(TypedDict):
    """Both frameworks' comparisons at one size, in one process or in several."""

    preset: str
    length: int
    batch_size: int
    data_parallel: NotRequired[int]
    sharded: NotRequired[int]
    ceilings: list[CeilingsJson]
    rows: list[ComparisonJson]


class PlanRecordJson(TypedDict):
    """The record of plans compared with runs."""

    environment: EnvironmentJson
    asked: RunJson
    floors: dict[str, int]
    sizes: list[SizeJson]
    layouts: list[SizeJson]


def load(name: str) -> PlanRecordJson:
    """The committed record of plans called ``name``; ``ValueError`` if it is no JSON object."""
    return cast(PlanRecordJson, records.load(name).as_object())
