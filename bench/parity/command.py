"""Run ``twingrad compare``: choose the programs, compare them, print and write the results."""

import time
from dataclasses import dataclass

from rich.console import Console

from bench.harness import frameworks, programs, records, terminal
from bench.harness.frameworks import Framework
from bench.parity import demo_tables, summary, tables, tasks
from bench.parity.options import CompareOptions
from bench.parity.places import in_each, settled
from bench.parity.tasks import TaskResult
from twingrad import environment as facts
from twingrad import outcome_tables
from twingrad.files import write_json
from twingrad.numerics import UNIT_ROUNDOFF
from twingrad.outcome import Outcome, diagnose_hint, outcome_object


@dataclass(frozen=True)
class CompareResult:
    """Whether every gate holds, and the record of it, where one is wanted."""

    ok: bool
    record: dict[str, object]


def run(options: CompareOptions, console: Console) -> CompareResult:
    """Compare, print, and write the files; raises ``ValueError`` for a wrong call."""
    started = time.perf_counter()
    pair = frameworks.both()
    with tasks.place_for(options) as first:

        def seen() -> dict[str, list[str]]:
            return in_each(first, pair, devices)

        device = frameworks.agreed_device(options.device, seen)
        place = settled(first, device)
        if options.dtype == "tf32" and device != "cuda":
            raise ValueError(
                "dtype tf32 needs a cuda device: TF32 is a mode of NVIDIA's tensor cores"
            )
        planned = tasks.plan(options, device)
        console.print("Running the same programs in PyTorch and in JAX, from the same numbers.\n")
        results: list[TaskResult] = []
        with terminal.progress(console) as say:
            for result in tasks.run_all(planned, pair, place, say):
                results.append(result)
                _show(console, result, detailed=len(planned) == 1)
        recorded = bool(options.json or options.html)
        found = in_each(place, pair, versions) if recorded else {}
    outcomes = [outcome for result in results for outcome in result.outcomes]
    ok = all(outcome.ok for outcome in outcomes)
    if options.save:
        records.write_observed(options.save, results[-1].observed, planned[-1].dtypes[-1])
    seconds = time.perf_counter() - started
    record: dict[str, object] = {}
    if recorded:
        record = {
            "ok": ok,
            "environment": facts.environment(device, {**found["torch"], **found["jax"]}),
            "programs": _program_objects(results),
            "seconds": round(seconds, 1),
        }
    if options.json:
        write_json(options.json, record)
    if len(planned) > 1:
        summary.show(console, outcomes)
    outcome_tables.closing(console, outcomes, seconds, _hint(outcomes))
    return CompareResult(ok, record)


def devices(framework: Framework) -> list[str]:
    """The devices that the framework can use."""
    return framework.runtime.devices()


def versions(framework: Framework) -> dict[str, str]:
    """Versions of the framework and of its libraries."""
    return framework.runtime.versions()


def _hint(outcomes: list[Outcome]) -> str | None:
    """What to call to know more about the first program that differs, if it can be diagnosed."""
    differing = (o for o in outcomes if not o.ok and o.program in programs.MAKERS)
    outcome = next(differing, None)
    if outcome is None:
        return None
    preset = f" --preset {outcome.preset}" if outcome.preset else ""
    return diagnose_hint(outcome.program + preset)


def _show(console: Console, result: TaskResult, detailed: bool) -> None:
    demo_tables.show(console, result.title, result.demonstrations)
    if detailed:
        for outcome in result.outcomes:
            if outcome.dtype in UNIT_ROUNDOFF:  # the tensor tour is in the frameworks' defaults
                for gate in outcome.gates:
                    rule = tables.RULES[gate.name]
                    outcome_tables.worst_tensors(console, gate, outcome.dtype, rule)
    outcome_tables.outcomes(console, result.title, result.outcomes)


def _program_objects(results: list[TaskResult]) -> list[dict[str, object]]:
    """Every outcome as the JSON contract has it; a program's last one has its demonstrations."""
    objects: list[dict[str, object]] = []
    for result in results:
        objects += [dict(outcome_object(outcome)) for outcome in result.outcomes]
        lessons = result.demonstrations.as_object()
        if lessons:
            objects[-1]["lessons"] = lessons
    return objects
