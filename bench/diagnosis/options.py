"""Options of ``diagnose``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness.programs import MAKERS
from shared.config import PRESETS
from twingrad.cli.options import option


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """Options of ``diagnose`` for the built-in programs."""

    program: str = option(
        "gpt2",
        positional=True,
        choices=tuple(MAKERS),
        help="a pair file, which is run, or a built-in program",
    )
    preset: str | None = option(
        None, choices=tuple(PRESETS), help="size of GPT-2, tiny where it is left out"
    )
    all: bool = option(False, help="every place, not the first alone")
    json: Path | None = option(None, metavar="FILE", help="write the findings as JSON")
