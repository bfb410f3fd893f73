"""One call of ``diagnose``: what was asked for becomes findings, shown and written."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.diagnosis import builtin
from bench.harness import frameworks, machine, programs, records, terminal
from twingrad.cli.pair_commands import show_findings
from twingrad.diagnosis import engine
from twingrad.diagnosis import finding as diagnosis_finding
from twingrad.diagnosis.engine import Say
from twingrad.diagnosis.finding import Finding


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``diagnose``, its words already checked."""

    program: str = "gpt2"
    preset: str | None = None
    every: bool = False
    json: Path | None = None


def run(asked: Asked, console: Console) -> int:
    """Look, show, and write; 0 if nothing diverges, else 1. Raises ``ValueError``."""
    both = frameworks.both()
    with console.status("starting") as status:
        found, seconds = engine.timed(lambda: _found(asked, both, terminal.saying(status)))
    if asked.json:
        environment = machine.environment(both, "cpu")
        records.write_json(asked.json, diagnosis_finding.as_object(found, seconds, environment))
    show_findings(console, asked.program, found, seconds)
    return 1 if found else 0


def _found(asked: Asked, both: frameworks.Frameworks, say: Say) -> list[Finding]:
    if asked.program == "gpt2":
        preset = asked.preset or "tiny"
        program = programs.gpt2(preset, optimizer_layers=None if preset == "tiny" else 1)
    else:
        program = programs.make(asked.program)
    return builtin.find(program, both, say, asked.every)
