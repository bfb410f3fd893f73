"""Tables of a plan on a terminal, and of plans compared with runs in Markdown."""

from rich.console import Console

from bench.harness import terminal
from bench.harness.terminal import gib
from bench.planning.estimate import Assumptions
from bench.planning.record import MeasuredJson, PlannedJson, PlanRecordJson, load
from bench.planning.report import ActivationReport, PlanReport


def show(console: Console, report: PlanReport) -> None:
    """Print one plan."""
    step, train = report.step, report.step.train
    console.print(
        f"GPT-2 {report.preset}, {report.parameters:,} parameters, {train.dtype}, "
        f"{step.dropout} dropout: {train.batch_size} x {step.length} tokens a step on "
        f"{step.devices} device{'s' * (step.devices > 1)}, {step.rows} x {step.length} at a time "
        "on each",
        markup=False,
    )
    _show_state(console, report)
    _show_activations(console, report)
    _show_layouts(console, report)
    if report.assumed:
        _show_estimates(console, report, report.assumed)
    console.print(_grounds(report), markup=False)


def _show_state(console: Console, report: PlanReport) -> None:
    n = report.parameters * report.step.wide
    rows = terminal.table(
        "", "GiB", title="The state, of which a sharded device has its part", right=("GiB",)
    )
    for name, size in (("parameters", n), ("gradients", n), ("AdamW's moments", 2 * n)):
        rows.add_row(name, gib(size))
    terminal.put(console, rows)


def _show_activations(console: Console, report: PlanReport) -> None:
    heads = [
        f"{terminal.NAMES[name]} {column}"
        for name in report.frameworks
        for column in ("kept", "at work")
    ]
    rows = terminal.table(
        "attention", "blocks", "loss", *heads, title="Activations of a device, GiB", right=(*heads,)
    )
    by_framework = [
        [row for row in report.activations if row.framework == name] for name in report.frameworks
    ]
    for group in zip(*by_framework, strict=True):
        way = group[0]
        rows.add_row(
            "fused" if way.fused else "written out",
            "recomputed" if way.recompute else "kept",
            f"chunks of {way.chunk}" if way.chunk else "whole",
            *(cell for row in group for cell in _activation_cells(row)),
        )
    rows.note = "* what the trainer does with these settings"
    terminal.put(console, rows)


def _activation_cells(row: ActivationReport) -> tuple[str, str]:
    mark = "*" if row.chosen else ""
    return gib(row.kept_bytes) + mark, gib(row.working_bytes) + mark


def _show_layouts(console: Console, report: PlanReport) -> None:
    names = report.frameworks
    heads = [
        f"{terminal.NAMES[name]} {column}" for column in ("peak", "sends", "step") for name in names
    ]
    rows = terminal.table(
        "devices",
        *heads,
        title="Each device, by data-parallel x sharded: GiB at the peak, GB sent and time a step",
        right=tuple(heads),
    )
    for i in range(0, len(report.layouts), len(names)):
        group = report.layouts[i : i + len(names)]
        rows.add_row(
            f"{group[0].data_parallel} x {group[0].sharded}",
            *(gib(row.peak_bytes or row.tensor_bytes) for row in group),
            *(f"{sum(row.exchange_bytes.values()) / 1e9:.3g}" for row in group),
            *(terminal.seconds(row.step_s) if row.step_s else "" for row in group),
        )
    terminal.put(console, rows)


def _show_estimates(console: Console, report: PlanReport, assumed: Assumptions) -> None:
    sheet, names = assumed.datasheet, report.frameworks
    fits = [f"{terminal.NAMES[name]} fits" for name in names]
    rows = terminal.table(
        *("devices", *fits, "step", "tokens/s"),
        title=f"Estimate for the {sheet.name}, {sheet.memory_bytes / 1e9:.0f} GB, "
        f"at an MFU of {assumed.mfu:.0%}",
        right=("step", "tokens/s"),
    )
    for i in range(0, len(report.layouts), len(names)):
        group = report.layouts[i : i + len(names)]
        estimates = [row.estimate for row in group if row.estimate]
        rows.add_row(
            f"{group[0].data_parallel} x {group[0].sharded}",
            *("yes" if one.fits else "no" for one in estimates),
            terminal.seconds(estimates[0].step_s),
            f"{estimates[0].tokens_per_s:,.0f}",
        )
    peak = sheet.flops_per_s[report.step.train.dtype]
    rows.note = (
        f"Datasheet figures, not measured ({sheet.source}): {peak / 1e12:,.4g} TFLOP/s in "
        f"{report.step.train.dtype} without sparsity, {sheet.bytes_per_s / 1e9:,.0f} GB/s. The "
        "steps of the table before are at these peaks, which no program reaches."
    )
    terminal.put(console, rows)


def _grounds(report: PlanReport) -> str:
    """The sentences that say what the peaks and the times rest on."""
    step, names = report.step, report.frameworks
    floors = [row.floor_bytes for row in report.layouts[: len(names)] if row.floor_bytes]
    peaks = "Peaks are of tensors alone."
    if len(floors) == len(names):
        shares = " and ".join(
            f"{gib(floor)} GiB of {terminal.NAMES[name]}'s own"
            for floor, name in zip(floors, names, strict=True)
        )
        peaks = f"Peaks include {shares}."
    exchange = ""
    if report.link_bytes_per_s:
        exchange = ", the exchange after the arithmetic"
    elif step.devices > 1:
        exchange = ", without the exchange, for which --link GB/S is needed"
    if report.ceilings is None:
        return (
            f"{peaks} There are no rates of {step.train.dtype} on {step.device} for a time: give "
            "--ceilings a record of twingrad bench that has, or use --measure there."
        )
    by = "peaks" if report.assumed else "ceilings"
    return f"{peaks} Times are by {by} {report.ceilings}{exchange}."


# Markdown


def markdown(record: PlanRecordJson) -> str:
    """Plans next to what runs of the same sizes took."""
    lines = [
        "| a step of | | peak, planned | measured | | time, planned | measured | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in (*record["sizes"], *record["layouts"]):
        name = f"{size['preset']}, B {size['batch_size']}, T {size['length']}"
        if "sharded" in size:
            name += f"; {size['data_parallel']} x {size['sharded']} processes"
        for row in size["rows"]:
            plan, measured, errors = row["planned"], row["measured"], row["errors"]
            lines.append(
                f"| {name} | {terminal.NAMES[row['framework']]} | {_peak(plan)} "
                f"| {_peak(measured)} | {errors['peak']:+.0%} | {terminal.seconds(plan['step_s'])} "
                f"| {terminal.seconds(measured['step_s'])} | {errors['step']:+.0%} |"
            )
    floors = " and ".join(
        f"{terminal.NAMES[name]}'s {size / 2**30:.2f} GiB"
        for name, size in record["floors"].items()
    )
    links = [row["link_bytes_per_s"] / 1e9 for size in record["layouts"] for row in size["rows"]]
    return "\n".join(lines) + (
        f"\n\nOf one process's peaks, {floors} are its own. Several sent {min(links):.2g} to "
        f"{max(links):.2g} GB/s each while all did nothing else."
    )


def _peak(row: PlannedJson | MeasuredJson) -> str:
    return f"{row['peak_bytes'] / 2**30:.2f} GiB"


def breakdown(argument: str) -> str:
    """The parts of the planned memory and time of one size, ``RECORD::PRESET``."""
    name, _, preset = argument.partition("::")
    size = next(size for size in load(name)["sizes"] if size["preset"] == preset)
    memory, seconds = (
        {row["framework"]: part(row["planned"]) for row in size["rows"]}
        for part in (_memory_parts, _time_parts)
    )
    lines = ["| | " + " | ".join(terminal.NAMES[name] for name in memory) + " |"]
    lines.append("|---|" + "---|" * len(memory))
    for columns in (memory, seconds):
        for key in dict.fromkeys(key for column in columns.values() for key in column):
            cells = (column.get(key, "") for column in columns.values())
            lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory_parts(planned: PlannedJson) -> dict[str, str]:
    memory = planned["memory"]
    sizes = {
        **memory["state"],
        "kept for the backward pass": memory["kept"],
        "at work": memory["working"],
        **memory["lost"],
    }
    return {name: f"{size / 2**20:,.0f} MiB" for name, size in sizes.items()}


def _time_parts(planned: PlannedJson) -> dict[str, str]:
    return {name: terminal.seconds(value) for name, value in planned["seconds"].items()}
