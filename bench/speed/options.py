"""Options of ``twingrad bench``."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from bench.harness import ending
from bench.harness.frameworks import DEVICES
from bench.speed.workloads import DEFAULT, LARGE, SIZES, WORKLOADS
from shared.config import PRESETS
from twingrad.cli.options import choose, option

DTYPES = ("float32", "tf32", "bfloat16")
# The time in seconds that a call without arguments may take.
DEFAULT_BUDGET = 180.0
DEFAULT_PRESETS = {"cpu": "small", "cuda": "124m"}
DEFAULT_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
# The contestants where none are named, and the names that stand for several.
CONTESTANTS = ("jax-tuned", "torch-tuned", "jax-idiomatic", "torch-idiomatic")
GROUPS = (
    *("torch", "jax", "lean", "torch-ladder", "jax-ladder"),
    *("hf", "hf-compiled", "hf-tuned", "flax-reference", "flax-reference-tuned"),
)
# Processes of each contestant, one after the other, where no budget is to be kept: the same code
# has another speed in another process.
STARTS = 4
_DEFAULT_SIZES = SIZES["cpu"][DEFAULT_PRESETS["cpu"]]
_TIMED, _MEASURED, _RECORDS = "what is timed", "how it is measured", "records"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of one call of ``bench``; ``ValueError`` says which of them is wrong."""

    workload: tuple[str, ...] = option(
        (),
        group=_TIMED,
        metavar="W",
        offers=WORKLOADS,
        otherwise=" ".join(DEFAULT["cpu"]),
        rule=f"on a GPU {', '.join(DEFAULT['cuda'])}",
        help=f"what is timed, several with spaces between: {', '.join(WORKLOADS)}",
    )
    preset: str | None = option(
        None,
        group=_TIMED,
        help="size of GPT-2",
        choices=tuple(PRESETS),
        otherwise=DEFAULT_PRESETS["cpu"],
        rule=f"on a GPU {DEFAULT_PRESETS['cuda']}",
    )
    contestants: str | None = option(
        None,
        group=_TIMED,
        metavar="A,B",
        offers=GROUPS,
        otherwise=",".join(CONTESTANTS),
        help=f"who takes part: {', '.join(GROUPS)}, a peer, or one of a group",
    )
    peer: tuple[str, ...] = option(
        (),
        group=_TIMED,
        metavar="NAME=PATH",
        repeated=True,
        files=True,
        help="a checkout, which is run: nanogpt=PATH, or a Python file that defines a class "
        "Backend (or Racer, its older name)",
    )
    batch_size: int | None = option(
        None,
        group=_TIMED,
        metavar="B",
        help="sequences a step",
        otherwise=_DEFAULT_SIZES[0],
        rule=f"{SIZES['cpu']['tiny'][0]} for tiny, {LARGE['cpu'][0]} for larger ones; on a GPU "
        f"{SIZES['cuda']['tiny'][0]} and {LARGE['cuda'][0]}",
    )
    length: int | None = option(
        None,
        group=_TIMED,
        metavar="T",
        help="tokens a sequence",
        otherwise=_DEFAULT_SIZES[1],
        rule=f"{SIZES['cpu']['tiny'][1]} for tiny; on a GPU {SIZES['cuda']['tiny'][1]} and "
        f"{LARGE['cuda'][1]}",
    )
    device: str = option(
        "auto",
        group=_MEASURED,
        help="where it runs; auto is cuda if every installed framework sees a GPU",
        choices=DEVICES,
    )
    dtype: str | None = option(
        None,
        group=_MEASURED,
        help="the dtype of the computation",
        choices=DTYPES,
        otherwise=DEFAULT_DTYPES["cpu"],
        rule=f"on a GPU {DEFAULT_DTYPES['cuda']}",
    )
    samples: int = option(
        7,
        group=_MEASURED,
        metavar="N",
        help="clean samples wanted of each contestant, at least 3 a process",
    )
    starts: int | None = option(
        None,
        group=_MEASURED,
        metavar="N",
        help="processes that each contestant gets, one after the other: 1, or 3 and more",
        otherwise=STARTS,
        rule="1 for growth, with --budget, and without --workload and --preset on a CPU",
    )
    budget: str | None = option(
        None,
        group=_MEASURED,
        metavar="9m",
        help="end within this time: 90s, 9m, 1h",
        otherwise=f"{DEFAULT_BUDGET:g}s",
        rule="on a CPU; none with --workload, with --preset or on a GPU",
    )
    without_ceilings: bool = option(
        False,
        group=_MEASURED,
        help="leave out matrix products, copies and parts of a step alone, which come last",
    )
    json: Path | None = option(None, group=_RECORDS, metavar="FILE", help="the record as JSON")
    check: Path | None = option(
        None, group=_RECORDS, metavar="FILE", help="judge a record, and measure nothing"
    )
    render: bool = option(
        False, group=_RECORDS, help="make tables and plots anew from the committed records"
    )

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
        return ending.seconds(self.budget) if self.budget else None

    def within(self, seconds: float | None, path: Path) -> "BenchOptions":
        """The same call with a budget, none if ``None``, and a record at ``path``."""
        return replace(self, budget=f"{seconds:.3f}" if seconds else None, json=path)

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
