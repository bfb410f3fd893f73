"""Options of ``twingrad bench``."""

import re
from dataclasses import dataclass
from pathlib import Path

from bench.harness.frameworks import DEVICES
from bench.speed.workloads import WORKLOADS
from shared.config import PRESETS
from twingrad.cli.options import choose, option

DTYPES = ("float32", "tf32", "bfloat16")
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of one call of ``bench``; ``ValueError`` says which of them is wrong."""

    workload: tuple[str, ...] = option(
        (),
        metavar="W",
        help=f"{', '.join(WORKLOADS)}; default overhead and train, on a GPU the first five",
    )
    preset: str | None = option(None, help="size of GPT-2, default small", choices=tuple(PRESETS))
    device: str = option("auto", help="", choices=DEVICES)
    dtype: str | None = option(
        None, help="default float32 on a CPU, bfloat16 on a GPU", choices=DTYPES
    )
    contestants: str | None = option(
        None,
        metavar="A,B",
        help="torch and jax (default, each idiomatic and tuned), lean, torch-ladder, jax-ladder, "
        "hf, hf-compiled, hf-tuned, flax-reference, flax-reference-tuned, or one of a group",
    )
    peer: tuple[str, ...] = option(
        (),
        metavar="NAME=PATH",
        repeated=True,
        help="a checkout, which is run: nanogpt=PATH, or a Python file that defines a class "
        "Backend (or Racer, its older name)",
    )
    batch_size: int | None = option(None, metavar="B", help="sequences a step")
    length: int | None = option(None, metavar="T", help="tokens a sequence")
    samples: int = option(7, metavar="N", help="clean samples wanted of each, at least 3 a process")
    starts: int | None = option(
        None,
        metavar="N",
        help="processes that each contestant gets, one after the other: 1, or 3 and more; default "
        "4, but 1 for growth, with --budget, and without --workload and --preset on a CPU",
    )
    budget: str | None = option(None, metavar="9m", help="end within this time: 90s, 9m, 1h")
    json: Path | None = option(None, metavar="FILE", help="write the record")
    check: Path | None = option(None, metavar="FILE", help="judge a record, and no more")
    render: bool = option(False, help="make tables and plots anew from committed records")

    def __post_init__(self) -> None:
        choose("workload", self.workloads, WORKLOADS)
        for name in ("batch_size", "length", "samples", "starts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: expected 1 or more")
        _check_starts(self.starts or 1)
        if self.contestants is not None and not all(self.names):
            raise ValueError(f"--contestants is {self.contestants!r}: expected names, as in A,B")

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads, each once; several may stand in one word."""
        return tuple(dict.fromkeys(name for word in self.workload for name in word.split(",")))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of contestants or groups of them; none where the default is to be taken."""
        if self.contestants is None:
            return ()
        return tuple(name.strip() for name in self.contestants.split(","))

    @property
    def peers(self) -> dict[str, Path]:
        """The path of each peer's checkout."""
        return dict(map(_peer, self.peer))

    @property
    def budget_s(self) -> float | None:
        """The time that the call may take in seconds."""
        return _seconds(self.budget) if self.budget else None

    @property
    def plain(self) -> bool:
        """Whether the call names neither a workload nor a preset."""
        return not self.workload and not self.preset


def _check_starts(starts: int) -> None:
    if starts > 1:
        from bench.speed.statistics import STARTS  # which loads SciPy

        if starts < STARTS:
            raise ValueError(
                f"--starts is {starts}, too few to tell processes apart by: give 1, or {STARTS} "
                "and more"
            )


def _peer(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(f"--peer is {text!r}: expected NAME=PATH, as in nanogpt=../nanoGPT")
    if not re.fullmatch(r"\w[\w.-]*", name):  # files are named after it
        raise ValueError(f"--peer is named {name!r}: expected letters, digits, '_', '.' and '-'")
    return name, Path(path)


def _seconds(text: str) -> float:
    """``90s``, ``9m`` or ``1h``, or plain seconds."""
    number, scale = text, 1
    if text[-1:] in _UNITS:
        number, scale = text[:-1], _UNITS[text[-1]]
    try:
        seconds = float(number) * scale
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--budget is {text!r}: expected a time such as 90s, 9m or 1h")
    return seconds
