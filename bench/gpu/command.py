"""Run ``python -m bench.gpu``: measure what is missing, step by step, and say what still is."""

import math
import multiprocessing
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from bench.gpu import progress
from bench.gpu.options import GpuOptions
from bench.gpu.steps import Step, steps
from bench.harness import ending, records, terminal
from bench.harness.terminal import Say
from bench.parity import command as compare
from bench.parity.options import CompareOptions
from bench.speed import setup, tables
from bench.speed.benchmark import Bench
from bench.speed.setup import BenchSetup
from twingrad import environment as facts
from twingrad import lifeline
from twingrad.cli.ending import exit_status

# Seconds that a step is worth beginning with, and that a comparison has to end in when told to.
LEAST_S, ENDING_S = 5.0, 20.0


class Measurement:
    """One call: its steps, what the records have of each, and the time that is left."""

    def __init__(self, options: GpuOptions, console: Console):
        facts.require_frameworks()
        facts.commit()  # raises where the variable that names it holds none
        self.options, self.console = options, console
        self.deadline = time.monotonic() + (options.budget_s or math.inf)
        self.device = setup.pick_device(options.device)
        self.steps = steps(options, self.device)
        # Resolved before anything is measured: a wrong peer, say, is refused at once.
        self.setups: dict[str, BenchSetup] = {
            step.name: setup.resolve(progress.bench_options(step, options))
            for step in self.steps
            if step.contestants
        }
        options.out.mkdir(parents=True, exist_ok=True)
        progress.require_same_machine(self.steps, options, self.device)

    def left(self) -> float:
        """Seconds of the budget that remain."""
        return self.deadline - time.monotonic()

    def run(self) -> int:
        """Measure what is missing; 0 where nothing is and nothing failed, 1 else, 130 if ended."""
        code = 0
        try:
            with (
                ending.interruptible(),
                tempfile.TemporaryDirectory(prefix="twingrad-gpu-") as kept,
            ):
                for step in self.steps:
                    if self.left() < LEAST_S:
                        break
                    self._measure(step, Path(kept))
        except KeyboardInterrupt:
            code = 130
            self.console.print("Interrupted: what was measured until then is kept.")
        lacking = self._report()
        return code or int(lacking)

    def _measure(self, step: Step, references: Path) -> None:
        """Measure what is missing of a step, if anything is."""
        if not step.contestants:
            if not progress.is_compared(step, self.options):
                self.console.print(f"{step.name}: {step.about}")
                self._compare(step)
            return
        lacking = progress.missing(step, self.setups[step.name], self.options)
        if lacking:
            self.console.print(f"{step.name}: {step.about}")
            with terminal.progress(self.console) as say:
                self._time(step, lacking, references, say)

    def _time(self, step: Step, lacking: progress.Missing, references: Path, say: Say) -> None:
        path = progress.next_path(step, self.options.out)
        left = self.left()
        first = self.setups[step.name].contestants[0].name
        options = progress.bench_options(step, self.options, lacking, first)
        budget = left if left < math.inf else None
        bench = Bench(options.within(budget, path), say, references)
        try:
            bench.measure()
        except KeyboardInterrupt:
            bench.interrupted = True
            raise
        finally:
            measured = bench.record()
            if measured.results:
                records.write_json(path, measured.to_json())
                tables.show(self.console, measured)

    def _compare(self, step: Step) -> None:
        path = progress.next_path(step, self.options.out)
        left = self.left()
        options = CompareOptions(
            program="gpt2",
            preset=step.preset,
            dtype=step.dtype,
            device=self.device,
            json=path,
            budget=f"{left:.3f}" if left < math.inf else None,
        )
        # A process of its own, since settings of a framework last as long as it does.
        process = multiprocessing.get_context("spawn").Process(target=_run_compare, args=(options,))
        process.start()
        try:
            process.join(left + ENDING_S if left < math.inf else None)
        finally:
            _end(process)

    def _report(self) -> bool:
        """Say what every step has; whether anything is missing or failed."""
        shown = terminal.table("step", "what", "records", "still missing", title="Measured so far")
        wrong = False
        for step in self.steps:
            missing, failed = self._state(step)
            wrong = wrong or bool(missing or failed)
            names = [path.name for path in progress.paths(step, self.options.out)]
            shown.add_row(step.name, step.about, ", ".join(names), "; ".join([*missing, *failed]))
        terminal.put(self.console, shown)
        if wrong:
            self.console.print(
                f"The same command goes on from here, with the records in {self.options.out}.",
                markup=False,
            )
        return wrong

    def _state(self, step: Step) -> tuple[list[str], list[str]]:
        """What is missing of a step, and what failed in it."""
        missing = [f"pip install {package}" for package in step.missing_packages]
        if not step.contestants:
            missing += [] if progress.is_compared(step, self.options) else ["all of it"]
        else:
            lacking = progress.missing(step, self.setups[step.name], self.options)
            missing += lacking.contestants
            missing += ["the ceilings"] if lacking.ceilings else []
        return missing, list(progress.failures(step, self.options))


def _run_compare(options: CompareOptions) -> None:
    """Compare in this process, which ends with the one that started it."""
    lifeline.end_with_parent()
    result = exit_status(lambda: compare.run(options, terminal.new_console()).status)
    raise SystemExit(result)


def _end(process: multiprocessing.context.SpawnProcess) -> None:
    """End a comparison: by SIGTERM, so that it keeps what it judged, and after that by force."""
    with suppress(KeyboardInterrupt):  # a second one is for ending at once
        if process.is_alive():
            process.terminate()
            process.join(ENDING_S)
    if process.is_alive():
        process.kill()
        process.join()


def run(options: GpuOptions, console: Console) -> int:
    """Measure, and say what is missing; raises ``ValueError`` for a wrong call."""
    return Measurement(options, console).run()
