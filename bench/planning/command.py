"""Run ``twingrad plan``: the cost of a training step, from formulas and from measured rates."""

import io
from dataclasses import replace

from rich.console import Console

from bench.planning import estimate, rates, tables
from bench.planning.options import PlanOptions
from bench.planning.rates import RateSource
from bench.planning.report import PlanReport
from bench.planning.step_plan import StepPlan
from bench.training.config import RunSettings, resolve
from shared.config import TrainConfig
from twingrad.files import write_json
from twingrad.terminal import PIPE_WIDTH, progress


def run(options: PlanOptions, console: Console) -> int:
    """Plan, show, and write; 0. Raises ``ValueError`` where the call or a record is wrong."""
    settings, devices = options.settings, options.device_count
    if settings.batch_size is None:  # each device has a run's own
        settings = replace(settings, batch_size=TrainConfig.batch_size * devices)
    config = resolve(settings)
    step = StepPlan.of(config, data_parallel=devices, device=options.device_kind)
    report = PlanReport.of(
        config.preset,
        step,
        options.arrangements(),
        _rates(options, step, console),
        options.link * 1e9 if options.link else None,
        estimate.Assumptions(options.datasheet, options.mfu) if options.datasheet else None,
    )
    if options.json:
        write_json(options.json, report.to_json())
    tables.show(console, report)
    return 0


def _rates(options: PlanOptions, step: StepPlan, console: Console) -> RateSource:
    """The rates that the options name, else those of the committed record, where they fit."""
    names = options.frameworks
    if options.datasheet:
        return rates.of_datasheet(options.datasheet, step, names)
    if options.measure:
        with progress(console) as say:
            return rates.measured(step, names, say)
    if options.ceilings:
        return rates.stored(options.ceilings, step, names)
    try:
        return rates.stored(rates.RECORD, step, names)
    except rates.MismatchedRates:
        return rates.unrated(names)


def example(preset: str) -> str:
    """What ``twingrad plan --preset PRESET --devices 64`` prints in a pipe, for the pages."""
    text = io.StringIO()
    console = Console(file=text, width=PIPE_WIDTH, highlight=False, color_system=None)
    run(PlanOptions(devices=64, settings=RunSettings(preset=preset)), console)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"
