"""Options of ``twingrad plan``."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import frameworks
from bench.planning.datasheets import DATASHEETS, Datasheet
from bench.training.config import RunSettings
from twingrad.cli.options import option

# Settings of a run that decide what a step takes.
STEP_SETTINGS = (
    "preset", "dtype", "dropout", "drop_rate", "batch_size", "micro_batches", "length",
    "loss_chunk", "recompute",
)  # fmt: skip


# Devices of the largest plan.
MOST_DEVICES = 1 << 20
_MACHINES, _RATES = "what it runs on", "its rates"


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of ``plan``; ``settings`` are those of a run, ``link`` is in GB/s."""

    framework: str = option("both", group=_MACHINES, help="what trains", choices=frameworks.CHOICES)
    device: str = option(
        "cpu",
        group=_MACHINES,
        help="what it trains on; a GPU by its name is estimated from its datasheet",
        choices=("cpu", "cuda", *DATASHEETS),
    )
    devices: int | None = option(
        None,
        group=_MACHINES,
        metavar="N",
        otherwise=1,
        rule="--data-parallel times --sharded",
        help="number of devices; every arrangement of them is planned",
    )
    data_parallel: int | None = option(
        None, group=_MACHINES, metavar="N", help="groups of devices that each hold a whole model"
    )
    sharded: int | None = option(
        None, group=_MACHINES, metavar="M", help="devices of a group, which share one model's parts"
    )
    ceilings: Path | None = option(
        None, group=_RATES, metavar="FILE", help="a record of twingrad bench to take rates from"
    )
    measure: bool = option(False, group=_RATES, help="measure the rates on this machine now")
    link: float | None = option(
        None, group=_RATES, metavar="GB/S", help="what a device can send, in GB/s"
    )
    mfu: float = option(
        0.4,
        group=_RATES,
        metavar="X",
        help="share of a datasheet's peak that a step's arithmetic reaches, for tokens/s",
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="the plan as JSON"
    )
    settings: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        for name in ("devices", "data_parallel", "sharded", "link"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: expected more than 0")
        if self.device_count > MOST_DEVICES:
            raise ValueError(
                f"{self.device_count} devices: expected {MOST_DEVICES} at most, which is far more "
                "than there are anywhere"
            )
        product = (self.data_parallel or 1) * (self.sharded or 1)
        if self.is_arranged and self.devices not in (None, product):
            raise ValueError(
                f"--data-parallel {self.data_parallel or 1} times --sharded {self.sharded or 1} "
                f"is {product}, and --devices is {self.devices}: leave --devices out"
            )
        if not 0 < self.mfu <= 1:
            raise ValueError(f"--mfu is {self.mfu:g}: expected a share, over 0 and up to 1")
        if self.datasheet and (self.measure or self.ceilings):
            raise ValueError(
                f"--device {self.device} is planned from its datasheet: leave out --measure and "
                "--ceilings, or say --device cuda"
            )
        if self.measure and self.ceilings:
            raise ValueError("--measure and --ceilings exclude one another: leave one of them out")

    @property
    def datasheet(self) -> Datasheet | None:
        """The figures of the GPU that is named, if one is."""
        return DATASHEETS.get(self.device)

    @property
    def device_kind(self) -> str:
        """The device as the frameworks know it."""
        return "cuda" if self.datasheet else self.device

    @property
    def is_arranged(self) -> bool:
        """Whether the options say how the devices divide the work."""
        return self.data_parallel is not None or self.sharded is not None

    @property
    def device_count(self) -> int:
        """The number of devices that share the step."""
        return self.devices or (self.data_parallel or 1) * (self.sharded or 1)

    def arrangements(self) -> list[tuple[int, int]]:
        """The (data_parallel, sharded) to plan: the one that is named, or all of the devices."""
        if self.is_arranged:
            return [(self.data_parallel or 1, self.sharded or 1)]
        return arrangements(self.device_count)

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The names of the frameworks to plan for."""
        return frameworks.chosen(self.framework)


def arrangements(devices: int) -> list[tuple[int, int]]:
    """Every (data_parallel, sharded) whose product is ``devices``."""
    small = [m for m in range(1, math.isqrt(devices) + 1) if devices % m == 0]
    sharded = sorted({*small, *(devices // m for m in small)})
    return [(devices // m, m) for m in sharded]
