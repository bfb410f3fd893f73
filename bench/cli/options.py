"""The subparsers that every command adds its own to."""

import argparse
from typing import TypeAlias

from twingrad.cli.options import Parser

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
