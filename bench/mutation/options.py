"""Options of ``mutants``."""

from dataclasses import dataclass
from pathlib import Path

from bench.harness.frameworks import DEVICES
from twingrad.cli.options import option

_PLANTED = "what is planted"


@dataclass(frozen=True, kw_only=True)
class MutantsOptions:
    """Options of ``mutants``."""

    only: tuple[str, ...] = option(
        (),
        group=_PLANTED,
        metavar="NAME",
        help="these bugs alone; without it every bug of the table in docs/equality.md",
    )
    alternate: bool = option(
        False,
        group=_PLANTED,
        help="plant each bug in one framework, PyTorch and JAX in turn, in half the time",
    )
    device: str = option(
        "auto",
        group=_PLANTED,
        choices=DEVICES,
        help="where it runs; auto is cuda if both frameworks see a GPU",
    )
    json: Path | None = option(
        None, group="files to write", metavar="FILE", help="the table as JSON"
    )
