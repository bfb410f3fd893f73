"""Options that several commands share, and checks of their values."""

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from bench.harness.frameworks import DEVICES as DEVICES
from twingrad.cli.options import Parser

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def choice(kind: str, value: str, choices: Sequence[str]) -> str:
    """``value``; ``ValueError`` names the choices if it is none of them."""
    if value not in choices:
        raise ValueError(f"unknown {kind} {value!r}: choose from {', '.join(choices)}")
    return value
