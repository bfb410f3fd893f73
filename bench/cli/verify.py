"""The commands ``tensors``, ``compare``, ``mutants`` and ``diagnose``, and what each runs."""

import argparse
import time
from collections.abc import Sequence

from twingrad import compile_cache
from twingrad.cli.commands import FRAMEWORKS, Command, OptionSource
from twingrad.cli.options import read_options
from twingrad.files import require_writable, write_json


def _tensors_options() -> Sequence[OptionSource]:
    from bench.parity.options import TensorsOptions

    return (TensorsOptions,)


def _compare_options() -> Sequence[OptionSource]:
    from bench.parity.options import CompareOptions

    return (CompareOptions,)


def _mutants_options() -> Sequence[OptionSource]:
    from bench.mutation.options import MutantsOptions

    return (MutantsOptions,)


def _diagnose_options() -> Sequence[OptionSource]:
    from bench.diagnosis.options import DiagnoseOptions

    return (DiagnoseOptions,)


def run_tensors(arguments: argparse.Namespace) -> int:
    """Print the tensor tour."""
    from bench.parity import tensor_tour
    from bench.parity.options import TensorsOptions

    options = read_options(TensorsOptions, arguments)
    require_writable(options.json)
    compile_cache.enable()
    return tensor_tour.show(options.json)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare programs, and write the page of it."""
    from bench.parity import command
    from bench.parity.options import CompareOptions
    from twingrad.terminal import new_console

    options = read_options(CompareOptions, arguments)
    require_writable(options.json, options.save, options.html)
    compile_cache.enable()
    result = command.run(options, new_console())
    if options.html and result.record:
        from bench.reporting import html

        html.write(options.html, result.record)
    return result.status


def run_diagnose(arguments: argparse.Namespace) -> int:
    """Diagnose a program."""
    from bench.diagnosis import command
    from bench.diagnosis.options import DiagnoseOptions
    from twingrad.terminal import new_console

    options = read_options(DiagnoseOptions, arguments)
    require_writable(options.json)
    compile_cache.enable()
    return command.run(options, new_console())


def run_mutants(arguments: argparse.Namespace) -> int:
    """Plant bugs and show which gate trips."""
    from bench.harness import frameworks, machine
    from bench.mutation import results, runner
    from bench.mutation.mutants import MUTANTS
    from bench.mutation.options import MutantsOptions
    from twingrad.terminal import new_console, progress

    options = read_options(MutantsOptions, arguments)
    require_writable(options.json)
    # Before a framework is imported, so that a wrong name is refused at once.
    mutants = runner.in_turn(MUTANTS) if options.alternate else MUTANTS
    chosen = runner.choose(mutants, options.only or None)
    pair = frameworks.both()
    device = frameworks.pick_device(options.device, pair)
    console = new_console()
    started = time.perf_counter()
    with progress(console, "planting bugs") as say:
        report = runner.run(pair, device=device, say=say, mutants=chosen)
    results.render(console, report)
    console.print(f"{time.perf_counter() - started:.0f} s")
    if options.json:
        environment = machine.environment(pair, device)
        write_json(options.json, results.report_object(report) | {"environment": environment})
    return 0 if report.ok else 1


COMMANDS = (
    Command(
        name="tensors",
        group=FRAMEWORKS,
        summary="a tour of tensors: NumPy, PyTorch and JAX side by side",
        about="Show the same small computations in NumPy, PyTorch and JAX, and explain every "
        "difference. With one framework installed, its half is shown.",
        examples=(
            ("twingrad tensors", "the tour"),
            ("twingrad tensors --json tensors.json", "and the table for a program"),
        ),
        options=_tensors_options,
        run=run_tensors,
    ),
    Command(
        name="compare",
        group=FRAMEWORKS,
        usage="[PROGRAM | FILE.py]",
        summary="run the programs in both frameworks, judge every tensor",
        about="Run the built-in programs, or a pair of your own models, in both frameworks on the "
        "same numbers, and judge every activation, loss, gradient and update.",
        examples=(
            ("twingrad compare", "every program, GPT-2 at two sizes"),
            (
                "twingrad compare gpt2 --preset tiny --dtype float64 --json gpt2.json",
                "one program, judged in float64 alone, with every number in a file",
            ),
            (
                "twingrad compare gpt2 --weights FOLDER --tokens tokens.npy",
                "weights and tokens of your own",
            ),
            ("twingrad compare my_pair.py", "a pair of your own models"),
        ),
        options=_compare_options,
        run=run_compare,
    ),
    Command(
        name="diagnose",
        group=FRAMEWORKS,
        usage="[PROGRAM | FILE.py]",
        summary="find where two models first differ, and why",
        about="Run every JAX module on the inputs of the same PyTorch module, and name the first "
        "whose own output, gradient or update differs, with the cause where a known one explains "
        "it.",
        examples=(
            ("twingrad diagnose gpt2 --preset tiny", "the built-in GPT-2"),
            ("twingrad diagnose my_pair.py --all", "every place where a pair of your own differs"),
        ),
        options=_diagnose_options,
        run=run_diagnose,
    ),
    Command(
        name="mutants",
        group=FRAMEWORKS,
        summary="plant bugs, and show which gate catches each",
        about="Plant bugs in one framework at a time, compare, and show which gate catches each: "
        "the proof that the gates can fail.",
        examples=(
            ("twingrad mutants --alternate", "each bug in one framework, in turn"),
            ("twingrad mutants --only gelu-erf --json mutants.json", "one bug, in both"),
        ),
        options=_mutants_options,
        run=run_mutants,
    ),
)
