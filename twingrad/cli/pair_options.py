"""Options of the commands for pairs of models in files."""

from dataclasses import dataclass
from pathlib import Path

from twingrad.basis import PRECISIONS
from twingrad.cli.options import option


@dataclass(frozen=True, kw_only=True)
class InitPairOptions:
    """Options of ``init-pair``."""

    file: Path = option(
        Path(),
        metavar="FILE.py",
        positional=True,
        required=True,
        help="the pair file to write; its name ends in .py",
    )
    side: str = option(
        "both",
        group="what is written",
        choices=("both", "torch", "jax"),
        help="both, torch or jax: one side alone for a pair that is judged from a record",
    )


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Options of ``record``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    side: str = option(
        "",
        group="what is recorded",
        required=True,
        choices=("torch", "jax"),
        help="torch or jax: the side that is run and recorded",
    )
    only: str | None = option(
        None,
        group="what is recorded",
        metavar="REGEX",
        otherwise="every module",
        help="modules whose calls are kept: those in whose path this is found",
    )
    like: Path | None = option(
        None,
        group="what is recorded",
        metavar="REC",
        otherwise="the numbers that the model is made with",
        help="a record of the other side, whose parameters this one is given",
    )
    limit: float = option(
        4.0, group="what is recorded", metavar="GIB", help="the most GiB that a record may have"
    )
    out: Path = option(
        Path(),
        group="files to write",
        metavar="REC",
        required=True,
        help="the record, a new folder with record.json and tensors.safetensors",
    )


@dataclass(frozen=True, kw_only=True)
class PairCompareOptions:
    """Options of ``compare FILE.py``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    dtype: str = option(
        "float32",
        group="what is compared",
        offers=("float64", "float32"),
        help="float64 or float32; float64 always runs first",
    )
    precision: str | None = option(
        None,
        group="what is compared",
        offers=PRECISIONS,
        otherwise="the pair's own: float64, then float32",
        help="float32 or bfloat16: judged there alone, for code that cannot run in float64",
    )
    device: str = option(
        "auto",
        group="what is compared",
        offers=("auto", "cpu", "cuda"),
        help="auto or cpu: on the CPU; cuda: both sides on a GPU",
    )
    strict: bool = option(
        False, group="what is compared", help="notes count as differences: status 1 for one"
    )
    against: Path | None = option(
        None,
        group="what is compared",
        metavar="REC",
        otherwise="both sides of the pair file",
        help="a record in place of the side that it holds, whose framework is then not needed",
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="every verdict as JSON"
    )
    html: Path | None = option(
        None, group="files to write", metavar="FILE", help="the comparison as a page to look at"
    )


@dataclass(frozen=True, kw_only=True)
class PairDiagnoseOptions:
    """Options of ``diagnose FILE.py``."""

    file: Path = option(
        Path(), metavar="FILE.py", positional=True, required=True, help="a pair file, which is run"
    )
    all: bool = option(
        False, group="what is looked at", help="every place where they differ, not the first alone"
    )
    strict: bool = option(
        False, group="what is looked at", help="notes count as divergences: status 1 for one"
    )
    against: Path | None = option(
        None,
        group="what is looked at",
        metavar="REC",
        otherwise="both sides of the pair file",
        help="a record in place of the side that it holds, whose framework is then not needed",
    )
    precision: str | None = option(
        None,
        group="what is looked at",
        offers=PRECISIONS,
        otherwise="the pair's own: float64, then float32",
        help="float32 or bfloat16: judged there alone, for code that cannot run in float64",
    )
    device: str = option(
        "auto",
        group="what is looked at",
        offers=("auto", "cpu", "cuda"),
        help="auto or cpu: on the CPU; cuda: both sides on a GPU",
    )
    map: bool = option(
        False,
        group="what is looked at",
        help="print which parameter holds which and what is left open, as code too, and stop",
    )
    until: str | None = option(
        None,
        group="what is looked at",
        metavar="NAME",
        help="what is computed up to the end of this module's first call alone; a module by its "
        "name in either framework",
    )
    only: str | None = option(
        None,
        group="what is looked at",
        metavar="REGEX",
        help="modules in whose name, in either framework, this is found, alone",
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="the findings as JSON"
    )
