"""The front door: ``twingrad`` and ``python -m bench``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from shared.config import PRESETS

DTYPES = ("float64", "float32", "bfloat16", "tf32", "all")
PROGRAMS = ("all", "tensors", "sigmoid-bce", "simple-net", "gpt2")
DEVICES = ("auto", "cpu", "cuda")


class _Parser(argparse.ArgumentParser):
    """Refuses a call in one sentence, where argparse would print the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 all gates hold, 1 one does not, 2 the call or an input was wrong."""
    # PyTorch asks the kernel for large pages, which spares thousands of faults a large tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except ValueError as error:
        print(f"twingrad: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("twingrad: interrupted, nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="twingrad",
        description="The same programs in PyTorch and in JAX, proven equal, tensor by tensor.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    tour = commands.add_parser("tensors", help="the tensor tour: NumPy, PyTorch, JAX side by side")
    tour.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    tour.set_defaults(run=_tensors)

    compare = commands.add_parser(
        "compare", help="run the programs in both frameworks and judge every tensor"
    )
    compare.add_argument("program", nargs="?", default="all", help=", ".join(PROGRAMS))
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
    compare.set_defaults(run=_compare)

    mutants = commands.add_parser(
        "mutants", help="plant bugs in one side at a time and show which gate trips"
    )
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    mutants.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    mutants.add_argument("--device", default="auto", help=", ".join(DEVICES))
    mutants.set_defaults(run=_mutants)
    return parser


def _console() -> Console:
    """A terminal as wide as it is; a pipe wide enough for the tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _choice(kind: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"unknown {kind} {value!r}: choose from {', '.join(choices)}")
    return value


def _writable(*paths: Path | None) -> None:
    """Refuse now what could not be written after minutes of work."""
    for path in paths:
        if path is None:
            continue
        folder = path.parent
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder; name a file")
        if not folder.is_dir():
            raise ValueError(f"cannot write {path}: the folder {folder} does not exist; create it")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"cannot write {path}: no permission to write in {folder}")


def _tensors(arguments: argparse.Namespace) -> int:
    from bench import tensors

    _writable(arguments.json)
    return tensors.show(arguments.json)


def _compare(arguments: argparse.Namespace) -> int:
    from bench import session

    _choice("program", arguments.program, PROGRAMS)
    if arguments.preset is not None:
        _choice("preset", arguments.preset, tuple(PRESETS))
    if arguments.dtype is not None:
        _choice("dtype", arguments.dtype, DTYPES)
    _choice("device", arguments.device, DEVICES)
    _writable(arguments.json, arguments.save)
    asked = session.Asked(
        program=arguments.program,
        preset=arguments.preset,
        dtype=arguments.dtype,
        device=arguments.device,
        weights=arguments.weights,
        tokens=arguments.tokens,
        json=arguments.json,
        save=arguments.save,
    )
    return session.run(asked, _console())


def _mutants(arguments: argparse.Namespace) -> int:
    from bench import mutants, record, sides

    _choice("device", arguments.device, DEVICES)
    _writable(arguments.json)
    pair = sides.both()
    device = sides.pick_device(arguments.device, pair)
    console = _console()
    started = time.perf_counter()
    with console.status("planting bugs") as status:
        report = mutants.run(pair, device=device, names=arguments.only, say=status.update)
    mutants.render(console, report)
    console.print(f"{time.perf_counter() - started:.0f} s")
    found = mutants.report_object(report)
    if arguments.json:
        record.write_json(arguments.json, found | {"environment": record.environment(pair, device)})
    return 0 if found["ok"] else 1
