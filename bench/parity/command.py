"""Run ``twingrad compare``: choose the programs, compare them, print and write the results."""

import time
from dataclasses import dataclass

from rich.console import Console

from bench.harness import ending, frameworks, programs, records, terminal
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

# Packages whose versions a record has before the frameworks are asked for more.
_PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True)
class CompareResult:
    """Whether every gate holds, and the record of it, where one is wanted.

    ``status`` is that of the command: 0 where all hold, 1 where one does not or the budget ended,
    130 where the call was interrupted.
    """

    ok: bool
    record: dict[str, object]
    status: int


def run(options: CompareOptions, console: Console) -> CompareResult:
    """Compare, print, and write the files; raises ``ValueError`` for a wrong call.

    The record is written after every program. SIGTERM, Ctrl-C and the end of a budget leave it
    with the programs that were judged, and no page and no tensors.
    """
    started = time.perf_counter()
    results: list[TaskResult] = []
    try:
        with ending.interruptible(options.budget_s):
            return _run(options, console, results, started)
    except KeyboardInterrupt as interruption:
        if not results and not isinstance(interruption, ending.BudgetEnded):
            raise
        of_budget = isinstance(interruption, ending.BudgetEnded)
        why = "The budget ended" if of_budget else "Interrupted"
        kept = "what was judged until then is kept" if results else "nothing had been judged"
        console.print(f"{why}: {kept}.")
        return CompareResult(False, {}, 1 if of_budget else 130)


def _run(
    options: CompareOptions, console: Console, results: list[TaskResult], started: float
) -> CompareResult:
    """The call itself; ``results`` has those of the programs that were judged, at any time."""
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
        with terminal.progress(console) as say:
            for result in tasks.run_all(planned, pair, place, say):
                results.append(result)
                _write_so_far(options, device, results, time.perf_counter() - started)
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
    return CompareResult(ok, record, 0 if ok else 1)


def _write_so_far(
    options: CompareOptions, device: str, results: list[TaskResult], seconds: float
) -> None:
    """Write down the programs that have been judged, as of a call that was interrupted."""
    if options.json:
        versions = facts.installed_versions(_PACKAGES)
        record = {
            "ok": False,
            "interrupted": True,
            "environment": facts.environment(device, versions),
            "programs": _program_objects(results),
            "seconds": round(seconds, 1),
        }
        write_json(options.json, record)


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
