"""Tables of a plan, on a terminal and in Markdown."""

from typing import Any

from rich.console import Console

from bench.harness import terminal
from bench.harness.records import load
from bench.harness.terminal import gib
from bench.planning.formulas import Plan


def show(console: Console, report: dict[str, Any], one: Plan) -> None:
    """Print one plan."""
    train = one.train
    console.print(
        f"GPT-2 {report['preset']}, {report['parameters']:,} parameters, {train.dtype}, "
        f"{one.dropout} dropout: {train.batch_size} x {one.length} tokens a step on "
        f"{one.devices} device{'s' * (one.devices > 1)}, {one.rows} x {one.length} at a time on "
        "each",
        soft_wrap=True,
    )
    names = list(dict.fromkeys(row["framework"] for row in report["layouts"]))
    labels = [terminal.NAMES[name] for name in names]
    _show_state(console, report, one)
    _show_activations(console, report, names, labels)
    heads = [f"{label} {what}" for what in ("peak", "sends", "step") for label in labels]
    rows = terminal.table(
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
            *(terminal.seconds(row["step_s"]) if row["step_s"] else "" for row in group),
        )
    terminal.put(console, rows)
    console.print(_grounds(report, one, names), soft_wrap=True, markup=False)


def _grounds(report: dict[str, Any], one: Plan, names: list[str]) -> str:
    """What the peaks and the times rest on."""
    floors = [row["floor_bytes"] for row in report["layouts"][: len(names)]]
    peaks = "Peaks are of tensors alone."
    if all(floors):
        own = " and ".join(
            f"{gib(floor)} GiB of {terminal.NAMES[name]}'s own"
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
    rows = terminal.table(
        "", "GiB", title="The state, of which a sharded device has its part", right=("GiB",)
    )
    for name, size in (("parameters", n), ("gradients", n), ("AdamW's moments", 2 * n)):
        rows.add_row(name, gib(size))
    terminal.put(console, rows)


def _show_activations(
    console: Console, report: dict[str, Any], names: list[str], labels: list[str]
) -> None:
    heads = [f"{label} {what}" for label in labels for what in ("kept", "at work")]
    rows = terminal.table(
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
    terminal.put(console, rows)


def planned(argument: str) -> str:
    """Plans next to what runs of the same sizes took."""
    found = load(argument)
    lines = [
        "| a step of | | peak, planned | measured | | time, planned | measured | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in (*found["sizes"], *found["layouts"]):
        name = f"{size['preset']}, B {size['batch_size']}, T {size['length']}"
        if "sharded" in size:
            name += f"; {size['data_parallel']} x {size['sharded']} processes"
        for row in size["rows"]:
            plan, measured, errors = row["planned"], row["measured"], row["errors"]
            lines.append(
                f"| {name} | {terminal.NAMES[row['framework']]} | {_gib(plan)} | {_gib(measured)} "
                f"| {errors['peak']:+.0%} | {terminal.seconds(plan['step_s'])} "
                f"| {terminal.seconds(measured['step_s'])} | {errors['step']:+.0%} |"
            )
    floors = " and ".join(
        f"{terminal.NAMES[name]}'s {size / 2**30:.2f} GiB" for name, size in found["floors"].items()
    )
    links = [row["link_bytes_per_s"] / 1e9 for size in found["layouts"] for row in size["rows"]]
    return "\n".join(lines) + (
        f"\n\nOf one process's peaks, {floors} are its own. Several sent {min(links):.2g} to "
        f"{max(links):.2g} GB/s each while all did nothing else."
    )


def _gib(row: dict[str, Any]) -> str:
    return f"{row['peak_bytes'] / 2**30:.2f} GiB"


def spent(argument: str) -> str:
    """What the planned memory and time of one size is made of, ``RECORD::PRESET``."""
    name, _, preset = argument.partition("::")
    size = next(size for size in load(name)["sizes"] if size["preset"] == preset)
    columns: dict[str, dict[str, str]] = {}
    for row in size["rows"]:
        memory = row["planned"]["memory"]
        held = memory["state"] | {"kept for the backward pass": memory["kept"]}
        held |= {"at work": memory["working"]} | memory["lost"]
        columns[row["framework"]] = {k: f"{v / 2**20:,.0f} MiB" for k, v in held.items()}
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    for row in size["rows"]:
        spent = row["planned"]["seconds"]
        columns[row["framework"]] |= {k: terminal.seconds(v) for k, v in spent.items()}
        keys += [key for key in spent if key not in keys]
    lines = ["| | " + " | ".join(terminal.NAMES[name] for name in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for key in keys:
        lines.append(f"| {key} | {' | '.join(c.get(key, '') for c in columns.values())} |")
    return "\n".join(lines)
