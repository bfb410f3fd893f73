"""Options of ``mutants``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness.frameworks import DEVICES
from twingrad.cli.options import option


@dataclass(frozen=True, kw_only=True)
class MutantsOptions:
    """Options of ``mutants``."""

    json: Path | None = option(None, metavar="FILE", help="write the table as JSON")
    only: tuple[str, ...] = option((), metavar="NAME", help="these bugs alone")
    alternate: bool = option(False, help="plant each bug in one framework, PyTorch and JAX in turn")
    device: str = option("auto", choices=DEVICES, help="")
