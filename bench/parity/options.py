"""Options of ``compare`` and ``tensors``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness.frameworks import DEVICES
from bench.harness.programs import NAMES
from shared.config import PRESETS
from twingrad.cli.options import option

DTYPES = ("float64", "float32", "bfloat16", "tf32", "all")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of ``compare`` for the built-in programs."""

    program: str = option(
        "all",
        positional=True,
        choices=("all", *NAMES),
        help="a pair file, which is run, or a built-in program",
    )
    preset: str | None = option(None, choices=tuple(PRESETS), help="size of GPT-2")
    dtype: str | None = option(None, choices=DTYPES, help="judged after float64")
    device: str = option("auto", choices=DEVICES, help="")
    weights: Path | None = option(
        None,
        metavar="PATH",
        help="a folder as transformers saves it, or one .safetensors file with --preset",
    )
    tokens: Path | None = option(None, metavar="FILE.npy", help="token ids, integers [B, T+1]")
    json: Path | None = option(None, metavar="FILE", help="write every verdict as JSON")
    save: Path | None = option(
        None,
        metavar="FILE.safetensors",
        help="write logits, losses and gradients of both frameworks",
    )
    html: Path | None = option(None, metavar="FILE", help="write it as a page to look at")


@dataclass(frozen=True, kw_only=True)
class TensorsOptions:
    """Options of ``tensors``."""

    json: Path | None = option(None, metavar="FILE", help="write the table as JSON")
