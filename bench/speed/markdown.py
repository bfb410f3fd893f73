"""Markdown tables of benchmark records."""

from typing import Any

from bench.harness import frameworks, terminal
from bench.harness.records import load
from bench.speed import record as speed_record
from bench.speed import tables


def speed(argument: str) -> str:
    """Results of one workload of a record, ``RECORD::train``, and ratios to the first."""
    name, _, workload = argument.partition("::")
    found = load(name).as_object()
    blocks = []
    for rows in tables.groups(found):
        head = [*tables.HEAD, "parity, worst of its limit"]
        if rows[0]["workload"] != workload:
            continue
        first = next((row for row in rows if row["status"] == "timed"), None)
        head[head.index("ratio")] = f"ratio to {first['contestant']}" if first else "ratio"
        cells = [tables.cells(row, first, found["ratios"]) for row in rows]
        kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
        lines = [f"**{tables.title(rows[0])}**", ""]
        lines.append("| " + " | ".join(head[i] for i in kept) + " |")
        lines.append("|" + "---|" * len(kept))
        lines += ["| " + " | ".join(row[i] for i in kept) + " |" for row in cells]
        blocks.append("\n".join(lines))
    own = [row for row in found["results"] if row["workload"] == workload]
    notes = [f"In brackets: {speed_record.intervals(found, own)}."]
    if any(not row.get("clean", True) for row in own):
        notes.append("\\* samples that other processes disturbed are in it.")
    blocks.append(" ".join(notes))
    return "\n\n".join(blocks)


def ceilings(argument: str) -> str:
    """Rates of matrix products and of a copy, alone."""
    found = load(argument)["ceilings"]
    names = [row["name"] for row in found[0]["products"]]
    lines = ["| GFLOP/s | " + " | ".join(names) + " | copy, GB/s |"]
    lines.append("|" + "---|" * (len(names) + 2))
    for one in found:
        label = terminal.NAMES[one["framework"]]
        if one["framework"] == "torch":
            label += ", tuned" if one["fast"] else ", default"
        rates = [f"{row['flops_per_s'] / 1e9:.0f}" for row in one["products"]]
        lines.append(f"| {label} | {' | '.join(rates)} | {one['copy_bytes_per_s'] / 1e9:.1f} |")
    return "\n".join(lines)


def ladder(argument: str) -> str:
    """What each setting adds, framework by framework."""
    lines = ["| rung | step | quartiles | GiB | first step |", "|---|---|---|---|---|"]
    for row in rungs(load(argument).as_object()):
        low, high = (terminal.seconds(row[f"quartile_{end}_s"]) for end in ("low", "high"))
        lines.append(
            f"| {terminal.NAMES[row['framework']]}: {row['about']['about']} | "
            f"{terminal.seconds(row['median_s'])} | {low}–{high} | "
            f"{row['peak_bytes'] / 2**30:.2f} | {terminal.seconds(row['first_s'])} |"
        )
    return "\n".join(lines)


def rungs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every rung that was timed; of one that ran beside each half of the others, the first time."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found["results"]:
        if row["tier"] == "ladder" and row["status"] == "timed":
            rows.setdefault(row["contestant"], row)
    return list(rows.values())


def growth(argument: str) -> str:
    """Exponents of a step's time."""
    lines = ["| | size | from | to | exponent | R² |", "|---|---|---|---|---|---|"]
    for one in load(argument)["growth"]:
        ends = [f"{one['sizes'][i]}: {terminal.seconds(one['median_s'][i])}" for i in (0, -1)]
        lines.append(
            f"| {one['contestant']} | {one['axis'].replace('_', ' ')} | {' | '.join(ends)} | "
            f"{one['exponent']:.2f} | {one['r_squared']:.3f} |"
        )
    return "\n".join(lines)


def repeated(argument: str) -> str:
    """Ratios to the first contestant in two calls, ``RECORD::RECORD``, and how many agree."""
    first, _, second = argument.partition("::")
    found = speed_record.repeated(load(first).as_object(), load(second).as_object())
    lines = ["| | first call | second call | in each other's interval |", "|---|---|---|---|"]
    for one, other, covered in found:
        if (one["numerator"], one["workload"]) != (found[0][0]["numerator"], "train"):
            continue
        cells = (f"{r['ratio']:.2f} ({r['low']:.2f}–{r['high']:.2f})" for r in (one, other))
        names = f"{one['numerator']} / {one['denominator']}"
        lines.append(f"| {names} | {' | '.join(cells)} | {'yes' if covered else '**no**'} |")
    held = sum(covered for *_, covered in found)
    lines += ["", f"Of the {len(found)} ratios of any two contestants, {held} agree."]
    return "\n".join(lines)


def ladder_figure() -> Any:
    """A step's time on every rung, PyTorch beside JAX."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    found = rungs(load("speed-ladder-cpu").as_object())
    for part, name, colour in zip(axes, frameworks.NAMES, ("#d1495b", "#2a7f9e"), strict=True):
        own = [row for row in found if row["framework"] == name]
        labels = [row["about"]["about"] for row in own]
        times = [row["median_s"] for row in own]
        spread = [
            [row["median_s"] - row["quartile_low_s"] for row in own],
            [row["quartile_high_s"] - row["median_s"] for row in own],
        ]
        part.barh(range(len(own)), times, xerr=spread, color=colour, ecolor="#333333")
        part.set_yticks(range(len(own)), [label.replace(", ", ",\n", 1) for label in labels])
        part.tick_params(axis="y", labelsize=7)
        part.invert_yaxis()
        part.set(title=terminal.NAMES[name], xlabel="seconds a training step, quartiles marked")
        part.spines[["top", "right"]].set_visible(False)
    return figure


def growth_figure() -> Any:
    """A step's time against each size, on logarithmic axes, with the fitted exponent."""
    from matplotlib.figure import Figure

    found = load("speed-growth-cpu")["growth"]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    names = list(dict.fromkeys(one["axis"] for one in found))
    ticks = (0.25, 0.5, 1, 2, 4)
    for part, axis in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        here = [one for one in found if one["axis"] == axis]
        for one in here:
            colour = "#2a7f9e" if one["contestant"].startswith("jax") else "#d1495b"
            label = f"{one['contestant']}, exponent {one['exponent']:.2f}"
            part.plot(one["sizes"], one["median_s"], "o-", color=colour, label=label)
        part.set(xscale="log", yscale="log", xlabel=axis.replace("_", " "))
        part.set_xticks(here[0]["sizes"], [str(size) for size in here[0]["sizes"]])
        part.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        part.minorticks_off()
        part.legend(frameon=False, fontsize=8)
        part.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds a training step")
    return figure
