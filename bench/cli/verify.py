"""Parsers and handlers of ``tensors``, ``compare``, ``mutants`` and ``diagnose``."""

import argparse
import time
from pathlib import Path
from typing import Any

from bench.cli.options import DEVICES, DTYPES, choice
from shared.config import PRESETS
from twingrad.files import require_writable
from twingrad.terminal import new_console

DIAGNOSED = ("sigmoid-bce", "simple-net", "gpt2")
PROGRAMS = ("all", "tensors", "sigmoid-bce", "simple-net", "gpt2")


def add_diagnose(commands: Any) -> None:
    """Add the parsers of ``diagnose`` and, for the help alone, the library's ``init-pair``."""
    diagnose = commands.add_parser(
        "diagnose", help="find where two models that should be one first part, and why"
    )
    diagnose.add_argument(
        "program",
        nargs="?",
        default="gpt2",
        help=f"{', '.join(DIAGNOSED)}, or a pair file, which is run; default gpt2",
    )
    diagnose.add_argument("--preset", help=f"size of GPT-2: {', '.join(PRESETS)}; default tiny")
    diagnose.add_argument("--all", action="store_true", help="every place, not the first alone")
    diagnose.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    diagnose.set_defaults(run=run_diagnose)

    commands.add_parser("init-pair", help="write a pair file to fill in")


def run_tensors(arguments: argparse.Namespace) -> int:
    """Print the tensor tour."""
    from bench.parity import tensor_tour

    require_writable(arguments.json)
    return tensor_tour.show(arguments.json)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare programs."""
    from bench.parity import command

    choice("program", arguments.program, PROGRAMS)
    if arguments.preset is not None:
        choice("preset", arguments.preset, tuple(PRESETS))
    if arguments.dtype is not None:
        choice("dtype", arguments.dtype, DTYPES)
    choice("device", arguments.device, DEVICES)
    require_writable(arguments.json, arguments.save, arguments.html)
    asked = command.Asked(
        program=arguments.program,
        preset=arguments.preset,
        dtype=arguments.dtype,
        device=arguments.device,
        weights=arguments.weights,
        tokens=arguments.tokens,
        json=arguments.json,
        save=arguments.save,
        html=arguments.html,
    )
    return command.run(asked, new_console())


def run_diagnose(arguments: argparse.Namespace) -> int:
    """Diagnose a program."""
    from bench.diagnosis import command as diagnosis_command

    require_writable(arguments.json)
    choice("program", arguments.program, DIAGNOSED)
    if arguments.preset is not None:
        if arguments.program != "gpt2":
            raise ValueError("--preset is for gpt2: say twingrad diagnose gpt2 --preset ...")
        choice("preset", arguments.preset, tuple(PRESETS))
    asked = diagnosis_command.Asked(
        program=arguments.program,
        preset=arguments.preset,
        every=arguments.all,
        json=arguments.json,
    )
    return diagnosis_command.run(asked, new_console())


def run_mutants(arguments: argparse.Namespace) -> int:
    """Plant bugs and show which gate trips."""
    from bench.harness import frameworks, machine, records
    from bench.mutation import mutants as mutation_mutants
    from bench.mutation import results, runner

    choice("device", arguments.device, DEVICES)
    require_writable(arguments.json)
    pair = frameworks.both()
    device = frameworks.pick_device(arguments.device, pair)
    console = new_console()
    started = time.perf_counter()
    with console.status("planting bugs") as status:
        planted = (
            runner.in_turn(mutation_mutants.MUTANTS)
            if arguments.alternate
            else mutation_mutants.MUTANTS
        )
        report = runner.run(
            pair, device=device, names=arguments.only, say=status.update, mutants=planted
        )
    results.render(console, report)
    console.print(f"{time.perf_counter() - started:.0f} s")
    found = results.report_object(report)
    if arguments.json:
        records.write_json(
            arguments.json, found | {"environment": machine.environment(pair, device)}
        )
    return 0 if found["ok"] else 1
