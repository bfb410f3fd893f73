"""Options of ``python -m bench.gpu``."""

import re
from dataclasses import dataclass
from pathlib import Path

from bench.harness import ending
from bench.harness.frameworks import DEVICES
from bench.speed.contestants import ADAPTERS
from bench.speed.options import BenchOptions
from shared.config import PRESETS
from twingrad.cli.options import option

_MEASURED, _RECORDS = "what is measured", "records"


@dataclass(frozen=True, kw_only=True)
class GpuOptions:
    """Options of one call; ``ValueError`` says which of them is wrong."""

    names: tuple[str, ...] = option(
        (),
        group=_MEASURED,
        metavar="STEP",
        positional=True,
        otherwise="all",
        help="steps to measure, by their names in the table at the end of a call",
    )
    device: str = option(
        "cuda",
        group=_MEASURED,
        choices=DEVICES,
        help="where it runs; cpu and --preset tiny try the command itself",
    )
    preset: str = option(
        "124m", group=_MEASURED, choices=tuple(PRESETS), help="size of GPT-2 that is measured"
    )
    peer: tuple[str, ...] = option(
        (),
        group=_MEASURED,
        metavar="NAME=PATH",
        repeated=True,
        files=True,
        help=f"a checkout to measure beside ours, which is run: {' '.join(ADAPTERS)}=PATH",
    )
    samples: int = option(
        7, group=_MEASURED, metavar="N", help="clean samples wanted of each contestant"
    )
    budget: str | None = option(
        None,
        group=_MEASURED,
        metavar="9m",
        otherwise="no end",
        help="end within this time, 90s, 9m or 1h; a second call goes on from there",
    )
    out: Path = option(
        Path("gpu-records"),
        group=_RECORDS,
        metavar="FOLDER",
        help="the folder of the records, which is made where it is not there",
    )

    def __post_init__(self) -> None:
        if self.budget is not None:
            ending.seconds(self.budget)
        BenchOptions(peer=self.peer, samples=self.samples)  # they are its options too
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is no folder: name one, or a new one")

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the peers that were given."""
        return tuple(re.split("=", given, maxsplit=1)[0] for given in self.peer)

    @property
    def budget_s(self) -> float | None:
        """The time that the call may take in seconds."""
        return ending.seconds(self.budget) if self.budget else None
