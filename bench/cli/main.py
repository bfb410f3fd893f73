"""The front door: ``twingrad`` and ``python -m bench``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli.measure import add_bench, add_plan, run_report
from bench.cli.options import DEVICES, DTYPES
from bench.cli.train import add_sample, add_train
from bench.cli.verify import PROGRAMS, add_diagnose, run_compare, run_mutants, run_tensors
from shared.config import PRESETS
from twingrad.cli import pair_commands
from twingrad.cli.main import exit_status
from twingrad.cli.options import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong.

    A call about a pair in a file is the library's to answer.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    run = pair_commands.run if pair_commands.answers(arguments) else _run
    return exit_status(lambda: run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parsed = _parser().parse_args(arguments)
    parsed.argv = list(arguments)
    status: int = parsed.run(parsed)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="twingrad",
        description="The same programs in PyTorch and in JAX, proven equal, tensor by tensor.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    tour = commands.add_parser("tensors", help="the tensor tour: NumPy, PyTorch, JAX side by side")
    tour.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    tour.set_defaults(run=run_tensors)

    compare = commands.add_parser(
        "compare", help="run the programs in both frameworks and judge every tensor"
    )
    compare.add_argument(
        "program",
        nargs="?",
        default="all",
        help=f"{', '.join(PROGRAMS)}, or a pair file, which is run",
    )
    compare.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}")
    compare.add_argument("--dtype", help=f"{', '.join(DTYPES)}; float64 always runs first")
    compare.add_argument("--device", default="auto", help=", ".join(DEVICES))
    compare.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="a folder as transformers saves it, or one .safetensors file with --preset",
    )
    compare.add_argument(
        "--tokens", type=Path, metavar="FILE.npy", help="token ids, integers [B, T+1]"
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="write every verdict as JSON")
    compare.add_argument(
        "--save",
        type=Path,
        metavar="FILE.safetensors",
        help="write logits, losses and gradients of both sides",
    )
    compare.add_argument("--html", type=Path, metavar="FILE", help="write it as a page to look at")
    compare.set_defaults(run=run_compare)

    mutants = commands.add_parser(
        "mutants", help="plant bugs in one side at a time and show which gate trips"
    )
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    mutants.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    mutants.add_argument(
        "--alternate", action="store_true", help="each on one side, PyTorch and JAX in turn"
    )
    mutants.add_argument("--device", default="auto", help=", ".join(DEVICES))
    mutants.set_defaults(run=run_mutants)
    add_diagnose(commands)
    add_train(commands)
    add_sample(commands)
    add_bench(commands)
    add_plan(commands)
    report = commands.add_parser(
        "report", help="write a page: the twins side by side, and all that was measured of them"
    )
    report.add_argument(
        "--html", type=Path, default=Path("report.html"), metavar="FILE", help="default report.html"
    )
    report.set_defaults(run=run_report)
    return parser
