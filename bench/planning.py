"""``twingrad plan``: what a training step will take, from formulas and from measured rates."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import contestants, plan, race, record, show, sides, standing
from bench.plan import FRAMEWORKS, Plan, Variant
from shared import files
from shared.config import GPTConfig

RECORD = record.ROOT / "bench" / "results" / "plan-cpu.json"
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
        record.write_json(asked.json, report)
    _show(console, report, plans[0])
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
            "chosen": how == plan.variant(one, name),
            "kept_bytes": plan.kept(one, name, how),
            "working_bytes": plan.working(one, name, how),
        }
        for name in frameworks
        for how in ways
    ]


def layout(one: Plan, name: str, found: dict[str, Any], link: float | None) -> dict[str, Any]:
    """One framework on one arrangement of devices: memory, exchange and time of each device."""
    memory = plan.memory(one, name)
    floor, ceilings = found[name]["floor_bytes"], found[name]["ceilings"]
    spent = plan.seconds(one, name, plan.rates(ceilings), link) if ceilings else {}
    return {
        "framework": name,
        "data_parallel": one.data_parallel,
        "sharded": one.sharded,
        "memory": asdict(memory),
        "floor_bytes": floor,
        "peak_bytes": None if floor is None else floor + memory.tensors,
        "tensor_bytes": memory.tensors,
        "exchange_bytes": plan.communication(one, name),
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
    rates = plan.rates(ceilings)
    every = (*rates.products.values(), *rates.parts.values(), rates.copy)
    spent = sum(plan.seconds(step, name, rates).values())
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
        sides.one(name)
        one = contestants.Contestant(
            name=f"{name} alone", family="", framework=name, tier="", racer="", about=""
        )
        entry = race.Entry(contestant=one, label=name)
        with race.stable([entry]) as folder:
            entry.process = race.Process(name, race.environment(one, folder), folder)
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
            except race.Failed as failure:
                raise ValueError(f"the ceilings of {name} cannot be measured: {failure}") from None
        found[name] = {"ceilings": ceilings, "floor_bytes": None}
    return found


# What a person reads


def _show(console: Console, report: dict[str, Any], one: Plan) -> None:
    train = one.train
    console.print(
        f"GPT-2 {report['preset']}, {report['parameters']:,} parameters, {train.dtype}, "
        f"{one.dropout} dropout: {train.batch_size} x {one.length} tokens a step on "
        f"{one.devices} device{'s' * (one.devices > 1)}, {one.rows} x {one.length} at a time on "
        "each",
        soft_wrap=True,
    )
    names = list(dict.fromkeys(row["framework"] for row in report["layouts"]))
    labels = [show.NAMES[name] for name in names]
    _show_state(console, report, one)
    _show_activations(console, report, names, labels)
    heads = [f"{label} {what}" for what in ("peak", "sends", "step") for label in labels]
    rows = show.table(
        "devices",
        *heads,
        title="Each device, by data-parallel x sharded: GiB at the peak, GB sent and time a step",
        right=tuple(heads),
    )
    for i in range(0, len(report["layouts"]), len(names)):
        group = report["layouts"][i : i + len(names)]
        rows.add_row(
            f"{group[0]['data_parallel']} x {group[0]['sharded']}",
            *(gib(row["peak_bytes"] or row["tensor_bytes"]) for row in group),
            *(f"{sum(row['exchange_bytes'].values()) / 1e9:.3g}" for row in group),
            *(standing.seconds(row["step_s"]) if row["step_s"] else "" for row in group),
        )
    show.put(console, rows)
    console.print(_grounds(report, one, names), soft_wrap=True, markup=False)


def _grounds(report: dict[str, Any], one: Plan, names: list[str]) -> str:
    """What the peaks and the times rest on."""
    floors = [row["floor_bytes"] for row in report["layouts"][: len(names)]]
    peaks = "Peaks are of tensors alone."
    if all(floors):
        own = " and ".join(
            f"{gib(floor)} GiB of {show.NAMES[name]}'s own"
            for floor, name in zip(floors, names, strict=True)
        )
        peaks = f"Peaks include {own}."
    exchange = ""
    if report["link_bytes_per_s"]:
        exchange = ", the exchange after the arithmetic"
    elif one.devices > 1:
        exchange = ", without the exchange, for which --link GB/S is needed"
    if report["ceilings"] is None:
        return (
            f"{peaks} There are no rates of {one.train.dtype} on {one.device} for a time: give "
            "--ceilings a record of twingrad bench that has, or use --measure there."
        )
    return f"{peaks} Times are by ceilings {report['ceilings']}{exchange}."


def _show_state(console: Console, report: dict[str, Any], one: Plan) -> None:
    n = report["parameters"] * one.wide
    rows = show.table(
        "", "GiB", title="The state, of which a sharded device has its part", right=("GiB",)
    )
    for name, size in (("parameters", n), ("gradients", n), ("AdamW's moments", 2 * n)):
        rows.add_row(name, gib(size))
    show.put(console, rows)


def _show_activations(
    console: Console, report: dict[str, Any], names: list[str], labels: list[str]
) -> None:
    heads = [f"{label} {what}" for label in labels for what in ("kept", "at work")]
    rows = show.table(
        "attention", "blocks", "loss", *heads, title="Activations of a device, GiB", right=(*heads,)
    )
    own = [[row for row in report["activations"] if row["framework"] == name] for name in names]
    for group in zip(*own, strict=True):
        cells = []
        for row in group:
            mark = "*" if row["chosen"] else ""
            cells += [gib(row["kept_bytes"]) + mark, gib(row["working_bytes"]) + mark]
        rows.add_row(
            "fused" if group[0]["fused"] else "written out",
            "recomputed" if group[0]["recompute"] else "kept",
            f"chunks of {group[0]['chunk']}" if group[0]["chunk"] else "whole",
            *cells,
        )
    rows.caption, rows.caption_justify = "* what the trainer does with these settings", "left"
    show.put(console, rows)


def gib(size: float) -> str:
    """Bytes in GiB, to three digits."""
    return f"{size / 2**30:.3g}"
