"""``twingrad plan``: what a training step will take, from formulas and from measured rates."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.harness import frameworks as harness_frameworks
from bench.harness import records
from bench.planning import formulas
from bench.planning.formulas import FRAMEWORKS, Plan, Variant
from bench.planning.tables import show
from bench.speed import contestants, scheduler
from shared import files
from shared.config import GPTConfig

RECORD = records.ROOT / "bench" / "results" / "plan-cpu.json"
CHUNK = contestants.FEW
WAIT_S = 300.0


# A framework whose rates nobody has measured.
UNRATED: dict[str, Any] = {"ceilings": None, "floor_bytes": None}


class Unlike(ValueError):
    """Rates of another dtype or device than the plan's."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of ``plan``: a step on one device, and over how many of them it is spread.

    Without a ``layout``, every way to arrange the ``devices`` is planned. ``link`` is in bytes/s.
    """

    step: Plan
    preset: str
    devices: int = 1
    layout: tuple[int, int] | None = None
    frameworks: tuple[str, ...] = FRAMEWORKS
    ceilings: Path | None = None
    measure: bool = False
    link: float | None = None
    json: Path | None = None


def run(asked: Asked, console: Console) -> int:
    """Plan, show, and write; 0. Raises ``ValueError`` where the call or a record is wrong."""
    layouts = [asked.layout] if asked.layout else list(arrangements(asked.devices))
    plans = [replace(asked.step, data_parallel=d, sharded=m) for d, m in layouts]
    if asked.measure:
        with console.status("measuring ceilings"):
            found = measure(asked.step, asked.frameworks)
        source = "measured now"
    else:
        try:
            found, source = stored(asked.ceilings or RECORD, asked.step, asked.frameworks)
        except Unlike:
            if asked.ceilings:
                raise
            # Memory and exchange need no rates.
            found, source = dict.fromkeys(asked.frameworks, UNRATED), None
    report = {
        "preset": asked.preset,
        "step": asdict(asked.step),
        "parameters": asked.step.parameters,
        "ceilings": source,
        "link_bytes_per_s": asked.link,
        "activations": activations(plans[0], asked.frameworks),
        "layouts": [layout(one, name, found, asked.link) for one in plans for name in found],
    }
    if asked.json:
        records.write_json(asked.json, report)
    show(console, report, plans[0])
    return 0


def arrangements(devices: int) -> Iterator[tuple[int, int]]:
    """Every (data_parallel, sharded) whose product is ``devices``."""
    return ((devices // m, m) for m in range(1, devices + 1) if devices % m == 0)


def activations(one: Plan, frameworks: tuple[str, ...]) -> list[dict[str, Any]]:
    """Bytes of one device's micro-batch, every way to trade time for memory."""
    chunk = one.train.loss_chunk or CHUNK
    ways = [
        Variant(fused, recompute, size)
        for fused in (False, True)
        for recompute in (False, True)
        for size in (0, chunk)
    ]
    return [
        {
            "framework": name,
            **asdict(how),
            "chosen": how == formulas.variant(one, name),
            "kept_bytes": formulas.kept(one, name, how),
            "working_bytes": formulas.working(one, name, how),
        }
        for name in frameworks
        for how in ways
    ]


def layout(one: Plan, name: str, found: dict[str, Any], link: float | None) -> dict[str, Any]:
    """One framework on one arrangement of devices: memory, exchange and time of each device."""
    memory = formulas.memory(one, name)
    floor, ceilings = found[name]["floor_bytes"], found[name]["ceilings"]
    spent = formulas.seconds(one, name, formulas.rates(ceilings), link) if ceilings else {}
    return {
        "framework": name,
        "data_parallel": one.data_parallel,
        "sharded": one.sharded,
        "memory": asdict(memory),
        "floor_bytes": floor,
        "peak_bytes": None if floor is None else floor + memory.tensors,
        "tensor_bytes": memory.tensors,
        "exchange_bytes": formulas.communication(one, name),
        "seconds": spent,
        "step_s": sum(spent.values()) if spent else None,
    }


# Measured rates: stored, or taken now


def stored(path: Path, step: Plan, frameworks: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Ceilings and floor of each framework in the record at ``path``, and what to call them.

    A record of several sizes is asked for the one nearest in width. Raises ``ValueError``, which
    is ``Unlike`` where the record is of another dtype or device.
    """
    try:
        raw = files.read_json(path)
        groups = raw.get("sizes") or [raw]
        nearest = min(groups, key=lambda group: _apart(group, step.model))
        tuned = {one["framework"]: one for one in nearest["ceilings"] if one["fast"]}
        found = {
            name: {"ceilings": tuned[name], "floor_bytes": raw.get("floors", {}).get(name)}
            for name in frameworks
        }
        for name, one in found.items():
            _hold(step, name, **one)
        device, dtype = raw["environment"]["device"], raw["asked"]["dtype"]
        processor = raw["environment"]["hardware"]["processor"]
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror}: give --ceilings a record of twingrad bench"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise ValueError(
            f"{path} has no ceilings of {' and '.join(frameworks)}: give --ceilings a record of "
            "twingrad bench that has, or --measure"
        ) from None
    if (device, dtype) != (step.device, step.train.dtype):
        raise Unlike(
            f"{path} was measured in {dtype} on {device}, and the plan is for {step.train.dtype} "
            f"on {step.device}: give another record to --ceilings, or use --measure there"
        )
    return found, f"of {path.name}, {processor}"


def _hold(step: Plan, name: str, ceilings: dict[str, Any], floor_bytes: int | None) -> None:
    """Raise ``ValueError``, or whatever else it comes to, where a plan cannot be made by these."""
    rates = formulas.rates(ceilings)
    every = (*rates.products.values(), *rates.parts.values(), rates.copy)
    spent = sum(formulas.seconds(step, name, rates).values())
    if not (min(every) > 0 and math.isfinite(spent)):
        raise ValueError("a rate is not positive")
    if floor_bytes is not None and not 0 <= floor_bytes < 1 << 48:
        raise ValueError("a floor is no number of bytes")


def _apart(group: dict[str, Any], model: GPTConfig) -> float:
    """How far the width that a group's ceilings are of is from the model's, in octaves."""
    products = {row["name"]: row["shape"] for row in group["ceilings"][0]["products"]}
    return abs(math.log2(products["c_proj"][1] / model.emb_dim))


def measure(step: Plan, frameworks: tuple[str, ...]) -> dict[str, Any]:
    """Ceilings of each framework on this machine now, each in a process of its own.

    Raises ``ValueError`` where one cannot be measured.
    """
    found = {}
    for name in frameworks:
        harness_frameworks.one(name)
        one = contestants.Contestant(
            name=f"{name} alone", family="", framework=name, tier="", racer="", about=""
        )
        entry = scheduler.Entry(contestant=one, label=name)
        with scheduler.stable([entry]) as folder:
            entry.process = scheduler.Process(name, scheduler.environment(one, folder), folder)
            try:
                ceilings = entry.ask(
                    "ceilings",
                    WAIT_S,
                    framework=name,
                    config=step.model,
                    batch_size=step.rows,
                    length=step.length,
                    dtype=step.train.dtype,
                    device=step.device,
                    fast=True,
                )
            except scheduler.Failed as failure:
                raise ValueError(f"the ceilings of {name} cannot be measured: {failure}") from None
        found[name] = {"ceilings": ceilings, "floor_bytes": None}
    return found
