"""Run ``twingrad diagnose`` for a built-in program: find, print and write the divergences."""

import time

from rich.console import Console

from bench.diagnosis.options import DEFAULT_PRESET, DiagnoseOptions
from bench.harness import frameworks, machine, programs
from bench.harness.programs import Program
from twingrad import finding_tables
from twingrad.diagnosis.finding import as_object
from twingrad.files import write_json
from twingrad.terminal import progress


def run(options: DiagnoseOptions, console: Console) -> int:
    """Diagnose the program; 0 if nothing diverges, else 1. Raises ``ValueError``."""
    if options.preset is not None and options.program != "gpt2":
        raise ValueError("--preset is for gpt2: say twingrad diagnose gpt2 --preset ...")
    of_pairs = {
        "map": options.map,
        "until": options.until,
        "only": options.only,
        "precision": options.precision,
        "device": options.device != "auto",
    }
    for name, value in of_pairs.items():
        if value:
            raise ValueError(f"--{name} is for a pair file: say twingrad diagnose FILE.py --{name}")
    both = frameworks.both()  # raises where one is not installed
    from bench.diagnosis import builtin  # it loads both

    started = time.perf_counter()
    with progress(console) as say:
        findings = builtin.find(_program(options), both, say, options.all)
    seconds = time.perf_counter() - started
    if options.json:
        write_json(options.json, as_object(findings, seconds, machine.environment(both, "cpu")))
    finding_tables.findings(console, options.program, findings)
    console.print(f"({seconds:.0f} s)")
    return 1 if findings else 0


def _program(options: DiagnoseOptions) -> Program:
    if options.program != "gpt2":
        return programs.make(options.program)
    preset = options.preset or DEFAULT_PRESET
    return programs.gpt2(preset, optimizer_layers=None if preset == "tiny" else 1)
