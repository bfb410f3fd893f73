"""Options of ``diagnose``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness.programs import MAKERS
from shared.config import PRESETS
from twingrad.basis import PRECISIONS
from twingrad.cli.options import option

DEFAULT_PRESET = "tiny"


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """Options of ``diagnose`` for the built-in programs."""

    program: str = option(
        "gpt2",
        positional=True,
        choices=tuple(MAKERS),
        files=True,
        help="a pair file, which is run, or a built-in program",
    )
    preset: str | None = option(
        None,
        group="what is looked at",
        choices=tuple(PRESETS),
        otherwise=DEFAULT_PRESET,
        help="size of GPT-2",
    )
    all: bool = option(
        False,
        group="what is looked at",
        help="every place where they differ, not the first alone",
    )
    precision: str | None = option(
        None,
        group="what is looked at",
        offers=PRECISIONS,
        help="of a pair file: float32 or bfloat16, judged there alone; for code that cannot run in "
        "float64",
    )
    device: str = option(
        "auto",
        group="what is looked at",
        offers=("auto", "cpu", "cuda"),
        help="of a pair file: auto or cpu, on the CPU; cuda, both sides on a GPU",
    )
    map: bool = option(
        False,
        group="what is looked at",
        help="of a pair file: print which parameter is which, as code to paste, and stop",
    )
    strict: bool = option(
        False,
        group="what is looked at",
        help="of a pair file: notes count as divergences, status 1 for one",
    )
    until: str | None = option(
        None,
        group="what is looked at",
        metavar="NAME",
        help="of a pair file: what is computed up to the end of this module's first call alone",
    )
    only: str | None = option(
        None,
        group="what is looked at",
        metavar="REGEX",
        help="of a pair file: modules in whose name, in either framework, this is found, alone",
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="the findings as JSON"
    )
