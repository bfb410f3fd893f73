"""Measured rates that a plan's times are computed by: from a record, or measured now."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.harness import frameworks, records, terminal
from bench.planning import timing
from bench.planning.datasheets import Datasheet
from bench.planning.record import CeilingsGroupJson, CeilingsJson, ProductJson, RatesRecordJson
from bench.planning.step_plan import StepPlan
from bench.speed import ceilings, json_form
from bench.speed.messages import MeasureCeilings
from bench.speed.worker_process import Failed
from shared import files
from shared.config import GPTConfig
from twingrad.environment import install_command

RECORD = records.ROOT / "bench" / "results" / "plan-cpu.json"
WAIT_S = 300.0


class MismatchedRates(ValueError):
    """Rates of another dtype or device than the plan's."""


@dataclass(frozen=True)
class FrameworkRates:
    """One framework's ceilings and the bytes of its process without a model, where measured."""

    ceilings: CeilingsJson | None = None
    floor_bytes: int | None = None


@dataclass(frozen=True)
class RateSource:
    """Rates by framework, and the ``name`` of where they come from; None where there are none."""

    name: str | None
    by_framework: dict[str, FrameworkRates]


def unrated(names: Iterable[str]) -> RateSource:
    """No rates: memory and exchange need none."""
    return RateSource(None, {name: FrameworkRates() for name in names})


def stored(path: Path, step: StepPlan, names: tuple[str, ...]) -> RateSource:
    """The rates of the frameworks ``names`` in the record at ``path``.

    Of several sizes those nearest in width to the model are taken. Raises ``ValueError``, which is
    ``MismatchedRates`` where the record is of another dtype or device.
    """
    try:
        record = cast(RatesRecordJson, files.read_json(path))
        groups = record.get("sizes") or [cast(CeilingsGroupJson, record)]
        nearest = min(groups, key=lambda group: _distance(group, step.model))
        tuned = {one["framework"]: one for one in nearest["ceilings"] if one["fast"]}
        floors = record.get("floors", {})
        rates = {name: FrameworkRates(tuned[name], floors.get(name)) for name in names}
        for name in names:
            _require_usable(step, name, tuned[name], floors.get(name))
        device, dtype = record["environment"]["device"], record["asked"]["dtype"]
        processor = record["environment"]["hardware"]["processor"]
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror}: give --ceilings a record of twingrad bench"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise ValueError(
            f"{path} has no ceilings of {' and '.join(names)}: give --ceilings a record of "
            "twingrad bench that has, or --measure"
        ) from None
    if (device, dtype) != (step.device, step.train.dtype):
        raise MismatchedRates(
            f"{path} was measured in {dtype} on {device}, and the plan is for {step.train.dtype} "
            f"on {step.device}: give another record to --ceilings, or use --measure there"
        )
    return RateSource(f"of {path.name}, {processor}", rates)


def _require_usable(step: StepPlan, name: str, ceilings: CeilingsJson, floor: int | None) -> None:
    """Raise ``ValueError`` or an arithmetic error unless a plan can be made by these rates."""
    rates = timing.rates(ceilings)
    every = (*rates.products.values(), *rates.parts.values(), rates.copy)
    total = sum(timing.seconds(step, name, rates).values())
    if not (min(every) > 0 and math.isfinite(total)):
        raise ValueError("a rate is not positive")
    if floor is not None and not 0 <= floor < 1 << 48:
        raise ValueError("a floor is no number of bytes")


def _distance(group: CeilingsGroupJson, model: GPTConfig) -> float:
    """The distance of the width of a group's ceilings from the model's, in octaves."""
    shapes = {row["name"]: row["shape"] for row in group["ceilings"][0]["products"]}
    return abs(math.log2(shapes["c_proj"][1] / model.emb_dim))


def of_datasheet(sheet: Datasheet, step: StepPlan, names: Iterable[str]) -> RateSource:
    """Every product at the datasheet's peak, and every other byte at its bandwidth."""
    peak = sheet.flops_per_s[step.train.dtype]
    products: list[ProductJson] = [
        {"name": name, "shape": [], "flops_per_s": peak, "median_flops_per_s": peak}
        for name in timing.PRODUCTS
    ]
    by_framework = {}
    for name in names:
        ceilings: CeilingsJson = {
            "framework": name,
            "fast": True,
            "products": products,
            "copy_bytes_per_s": sheet.bytes_per_s,
        }
        by_framework[name] = FrameworkRates(ceilings)
    return RateSource(f"of the datasheet of the {sheet.name}", by_framework)


def measure(
    step: StepPlan, names: tuple[str, ...], say: Callable[[str], None] = lambda text: None
) -> dict[str, CeilingsJson]:
    """Ceilings of each framework on this machine now, each in a process of its own.

    Raises ``ValueError`` where one cannot be measured, before any is where one is not installed.
    """
    present = [name for name in names if frameworks.installed(name)]
    for name in names:
        if name not in present:
            instead = (
                f", or plan for {present[0]} alone: --framework {present[0]}" if present else ""
            )
            raise ValueError(f"{name} is not installed: {install_command(name)}{instead}")
    measured = {}
    for name in names:
        say(f"measuring the ceilings of {terminal.NAMES[name]}")
        measured[name] = _measure(step, name)
    return measured


def measured(
    step: StepPlan, names: tuple[str, ...], say: Callable[[str], None] = lambda text: None
) -> RateSource:
    """Rates taken on this machine now."""
    measurements = measure(step, names, say)
    return RateSource("measured now", {name: FrameworkRates(measurements[name]) for name in names})


def _measure(step: StepPlan, name: str) -> CeilingsJson:
    frameworks.one(name)
    request = MeasureCeilings(
        framework=name,
        config=step.model,
        batch_size=step.rows,
        length=step.length,
        dtype=step.train.dtype,
        device=step.device,
        fast=True,
    )
    try:
        measured = ceilings.measure_in_process(request, WAIT_S)
    except Failed as failure:
        raise ValueError(f"the ceilings of {name} cannot be measured: {failure}") from None
    return cast(CeilingsJson, json_form.encode(measured))
