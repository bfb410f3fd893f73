"""A plan's report: memory, exchange and time of every arrangement of the devices."""

from dataclasses import asdict, dataclass, replace

from bench.planning import activations, estimate, memory, timing
from bench.planning.estimate import Assumptions, Estimate
from bench.planning.memory import Memory
from bench.planning.rates import FrameworkRates, RateSource
from bench.planning.step_plan import StepPlan, Variant, variant
from bench.speed import contestants

CHUNK = contestants.FEW


@dataclass(frozen=True, kw_only=True)
class ActivationReport:
    """Activations of one device's micro-batch, one way to trade time for memory.

    ``chosen`` is the way of the trainer with the plan's settings.
    """

    framework: str
    fused: bool
    recompute: bool
    chunk: int
    chosen: bool
    kept_bytes: int
    working_bytes: int


@dataclass(frozen=True, kw_only=True)
class LayoutReport:
    """One framework on one arrangement of devices: memory, exchange and time of each device.

    ``peak_bytes`` includes the floor; it and times are None where nobody has measured it.
    """

    framework: str
    data_parallel: int
    sharded: int
    memory: Memory
    floor_bytes: int | None
    peak_bytes: int | None
    tensor_bytes: int
    exchange_bytes: dict[str, float]
    seconds: dict[str, float]
    step_s: float | None
    estimate: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """A step's plan; ``ceilings`` names where the rates are from. Its fields are its JSON form.

    With ``assumed`` the rates are a datasheet's, and nothing of the time was measured.
    """

    preset: str
    step: StepPlan
    parameters: int
    ceilings: str | None
    link_bytes_per_s: float | None
    activations: list[ActivationReport]
    layouts: list[LayoutReport]
    assumed: Assumptions | None = None

    @classmethod
    def of(
        cls,
        preset: str,
        step: StepPlan,
        arrangements: list[tuple[int, int]],
        rates: RateSource,
        link: float | None,
        assumed: Assumptions | None = None,
    ) -> "PlanReport":
        """Plan ``step`` on every arrangement of its devices; ``link`` is in bytes/s."""
        plans = [replace(step, data_parallel=d, sharded=m) for d, m in arrangements]
        return cls(
            preset=preset,
            step=step,
            parameters=step.parameters,
            ceilings=rates.name,
            link_bytes_per_s=link,
            activations=[row for name in rates.by_framework for row in _activations(step, name)],
            assumed=assumed,
            layouts=[
                _layout(plan, name, measured, link, assumed)
                for plan in plans
                for name, measured in rates.by_framework.items()
            ],
        )

    @property
    def frameworks(self) -> list[str]:
        """The names of the frameworks that are planned."""
        return list(dict.fromkeys(row.framework for row in self.layouts))

    def to_json(self) -> dict[str, object]:
        """The object that ``plan --json`` writes."""
        return asdict(self)


def _activations(plan: StepPlan, name: str) -> list[ActivationReport]:
    """Every way to trade time for memory."""
    ways = [
        Variant(fused, recompute, size)
        for fused in (False, True)
        for recompute in (False, True)
        for size in (0, plan.train.loss_chunk or CHUNK)
    ]
    return [
        ActivationReport(
            framework=name,
            **asdict(way),
            chosen=way == variant(plan, name),
            kept_bytes=activations.kept(plan, name, way),
            working_bytes=activations.working(plan, name, way),
        )
        for way in ways
    ]


def _layout(
    plan: StepPlan,
    name: str,
    measured: FrameworkRates,
    link: float | None,
    assumed: Assumptions | None,
) -> LayoutReport:
    planned = memory.memory(plan, name)
    floor, ceilings = measured.floor_bytes, measured.ceilings
    seconds = timing.seconds(plan, name, timing.rates(ceilings), link) if ceilings else {}
    return LayoutReport(
        framework=name,
        data_parallel=plan.data_parallel,
        sharded=plan.sharded,
        memory=planned,
        floor_bytes=floor,
        peak_bytes=None if floor is None else floor + planned.tensors,
        tensor_bytes=planned.tensors,
        exchange_bytes=timing.communication(plan, name),
        seconds=seconds,
        step_s=sum(seconds.values()) if seconds else None,
        estimate=estimate.estimate(plan, planned.tensors, assumed) if assumed else None,
    )
