"""Parsers and handlers of ``tensors``, ``compare``, ``mutants`` and ``diagnose``."""

import argparse
import time

from bench.cli.options import Commands
from bench.diagnosis.options import DiagnoseOptions
from bench.mutation.options import MutantsOptions
from bench.parity.options import CompareOptions, TensorsOptions
from twingrad.cli.options import add_options, read_options
from twingrad.files import require_writable, write_json
from twingrad.terminal import new_console


def add_verify(commands: Commands) -> None:
    """Add the parsers of ``tensors``, ``compare`` and ``mutants``."""
    tensors = commands.add_parser(
        "tensors", help="the tensor tour: NumPy, PyTorch, JAX side by side"
    )
    add_options(tensors, TensorsOptions)
    tensors.set_defaults(run=run_tensors)
    compare = commands.add_parser(
        "compare", help="run the programs in both frameworks and judge every tensor"
    )
    add_options(compare, CompareOptions)
    compare.set_defaults(run=run_compare)
    mutants = commands.add_parser(
        "mutants", help="plant bugs in one framework at a time and show which gate trips"
    )
    add_options(mutants, MutantsOptions)
    mutants.set_defaults(run=run_mutants)


def add_diagnose(commands: Commands) -> None:
    """Add the parsers of ``diagnose`` and, for the help alone, the library's ``init-pair``."""
    diagnose = commands.add_parser(
        "diagnose", help="find where two models that should be one first part, and why"
    )
    add_options(diagnose, DiagnoseOptions)
    diagnose.set_defaults(run=run_diagnose)

    commands.add_parser("init-pair", help="write a pair file to fill in")


def run_tensors(arguments: argparse.Namespace) -> int:
    """Print the tensor tour."""
    from bench.parity import tensor_tour

    options = read_options(TensorsOptions, arguments)
    require_writable(options.json)
    return tensor_tour.show(options.json)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare programs, and write the page of it."""
    from bench.parity import command

    options = read_options(CompareOptions, arguments)
    require_writable(options.json, options.save, options.html)
    result = command.run(options, new_console())
    if options.html:
        from bench.reporting import html

        html.write(options.html, result.record)
    return 0 if result.ok else 1


def run_diagnose(arguments: argparse.Namespace) -> int:
    """Diagnose a program."""
    from bench.diagnosis import command

    options = read_options(DiagnoseOptions, arguments)
    require_writable(options.json)
    return command.run(options, new_console())


def run_mutants(arguments: argparse.Namespace) -> int:
    """Plant bugs and show which gate trips."""
    from bench.harness import frameworks, machine
    from bench.mutation import results, runner
    from bench.mutation.mutants import MUTANTS

    options = read_options(MutantsOptions, arguments)
    require_writable(options.json)
    pair = frameworks.both()
    device = frameworks.pick_device(options.device, pair)
    console = new_console()
    started = time.perf_counter()
    with console.status("planting bugs") as status:
        report = runner.run(
            pair,
            device=device,
            names=options.only or None,
            say=status.update,
            mutants=runner.in_turn(MUTANTS) if options.alternate else MUTANTS,
        )
    results.render(console, report)
    console.print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        environment = machine.environment(pair, device)
        write_json(options.json, results.report_object(report) | {"environment": environment})
    return 0 if report.ok else 1
