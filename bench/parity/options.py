"""Options of ``compare`` and ``tensors``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness import ending
from bench.harness.frameworks import DEVICES
from bench.harness.programs import NAMES
from shared.config import PRESETS
from twingrad.basis import PRECISIONS
from twingrad.cli.options import option

DTYPES = ("float64", "float32", "bfloat16", "tf32", "all")
# The sizes of GPT-2 that are compared where none is named.
DEFAULT_PRESETS = ("tiny", "124m")
_COMPARED = "what is compared"
_FILES = "files to write"


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of ``compare`` for the built-in programs."""

    program: str = option(
        "all",
        positional=True,
        choices=("all", *NAMES),
        files=True,
        help="a pair file, which is run, or a built-in program",
    )
    preset: str | None = option(
        None,
        group=_COMPARED,
        choices=tuple(PRESETS),
        otherwise=" and ".join(DEFAULT_PRESETS),
        help="size of GPT-2",
    )
    dtype: str | None = option(
        None,
        group=_COMPARED,
        choices=DTYPES,
        otherwise="float32",
        help="the dtype that is judged; float64 always runs first",
    )
    device: str = option(
        "auto",
        group=_COMPARED,
        choices=DEVICES,
        help="where it runs; auto is cuda if both frameworks see a GPU",
    )
    weights: Path | None = option(
        None,
        group=_COMPARED,
        metavar="PATH",
        help="GPT-2 weights: a folder as transformers saves it, or one .safetensors file with "
        "--preset",
    )
    tokens: Path | None = option(
        None,
        group=_COMPARED,
        metavar="FILE.npy",
        help="token ids for GPT-2, integers [B, T+1]: inputs, and targets one later",
    )
    budget: str | None = option(
        None,
        group=_COMPARED,
        metavar="9m",
        otherwise="no end",
        help="of built-in programs: end within this time, 90s, 9m or 1h, and keep what was judged",
    )
    precision: str | None = option(
        None,
        group=_COMPARED,
        offers=PRECISIONS,
        help="of a pair file: float32 or bfloat16, judged there alone; for code that cannot run in "
        "float64",
    )
    strict: bool = option(
        False,
        group=_COMPARED,
        help="of a pair file: notes count as differences, status 1 for one",
    )
    json: Path | None = option(None, group=_FILES, metavar="FILE", help="every verdict as JSON")
    save: Path | None = option(
        None,
        group=_FILES,
        metavar="FILE.safetensors",
        help="logits, losses and gradients of both frameworks, for tools of your own",
    )
    html: Path | None = option(
        None, group=_FILES, metavar="FILE", help="the comparison as a page to look at"
    )

    def __post_init__(self) -> None:
        if self.precision is not None:
            raise ValueError(
                "--precision is for a pair file: say twingrad compare FILE.py --precision"
            )
        if self.budget is not None:
            ending.seconds(self.budget)

    @property
    def budget_s(self) -> float | None:
        """The time that the call may take in seconds."""
        return ending.seconds(self.budget) if self.budget else None


@dataclass(frozen=True, kw_only=True)
class TensorsOptions:
    """Options of ``tensors``."""

    json: Path | None = option(None, group=_FILES, metavar="FILE", help="the table as JSON")
