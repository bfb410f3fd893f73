"""What a benchmark record looks like on a terminal, and in one line."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.harness.terminal import seconds
from bench.speed import record
from bench.speed.record import KEYS


def groups(found: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Rows that raced one another, in the order of the record."""
    order: dict[tuple, list[dict[str, Any]]] = {}
    for row in found["results"]:
        ladder = row["tier"] == "ladder"
        order.setdefault((ladder, *(row[key] for key in KEYS)), []).append(row)
    return list(order.values())


def title(row: dict[str, Any]) -> str:
    """What a group of rows ran."""
    parts = [
        row["workload"],
        row["variant"],
        row["preset"] if row["variant"] != row["preset"] else "",
    ]
    if row["workload"] == "decode":
        parts.append(f"{row['length']} tokens, half of them the prompt")
    elif row["length"]:
        parts.append(f"B {row['batch_size']}, T {row['length']}")
    parts.append(row["dtype"])
    return ", ".join(part for part in parts if part)


def show(console: Console, found: dict[str, Any]) -> None:
    """Tables of ceilings and results."""
    ceilings(console, found)
    for rows in groups(found):
        if rows[0]["workload"] != "growth":
            console.print(table(rows, found["ratios"]))
            console.print()
    if found["ratios"]:
        said = record.intervals(found, found["results"])
        console.print(f"In brackets: {said}.", markup=False)
    if any(row["status"] == "timed" and not row["clean"] for row in found["results"]):
        console.print(
            "* samples that other processes disturbed are in it: there were too few others"
        )
    if found["growth"]:
        console.print(growth(found))
    for one in found["skipped"]:
        console.print(f"Not reached: {one['stage']}, as {one['why']}.", markup=False)


def ceilings(console: Console, found: dict[str, Any]) -> None:
    """Rates of matrix products and of a copy, alone."""
    if not found["ceilings"]:
        return
    shown = Table(
        title="Ceilings: matrix products alone, GFLOP/s; a copy, GB/s",
        title_justify="left",
        box=None,
    )
    shown.add_column("")
    names = [row["name"] for row in found["ceilings"][0]["products"]]
    for name in (*names, "copy"):
        shown.add_column(name, justify="right")
    for one in found["ceilings"]:
        rates = [f"{row['flops_per_s'] / 1e9:,.0f}" for row in one["products"]]
        label = one["framework"] + (" tuned" if one["fast"] and one["framework"] == "torch" else "")
        shown.add_row(label, *rates, f"{one['copy_bytes_per_s'] / 1e9:.1f}")
    console.print(shown)
    console.print()


HEAD = ("contestant", "median", "quartiles", "tokens/s", "MFU", "GiB", "compile", "ratio")


def table(rows: list[dict[str, Any]], ratios: list[dict[str, Any]]) -> Table:
    """One group: median, spread, and how it stands to the first that was timed."""
    first = next((row for row in rows if row["status"] == "timed"), None)
    last = f"ratio to {first['contestant']}" if first else "ratio"
    shown = Table(title=title(rows[0]), title_justify="left", box=None)
    for name in (*HEAD[:-1], last, "parity, worst"):
        shown.add_column(name, justify="left" if name == "contestant" else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, cells(row, first, ratios)))
    return shown


def cells(
    row: dict[str, Any], first: dict[str, Any] | None, ratios: list[dict[str, Any]]
) -> list[str]:
    """One row in words; what was not timed says why."""
    if row["status"] != "timed":
        return [row["contestant"], row["status"][:60], *[""] * 6, _parity(row)]
    peak = row["peak_bytes"]
    begun = row["workload"] in ("cold", "decode")
    return [
        row["contestant"] + ("" if row["clean"] else " *"),
        seconds(row["median_s"]),
        f"{seconds(row['quartile_low_s'])}–{seconds(row['quartile_high_s'])}",
        "" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:,.0f}",
        "" if row["mfu"] is None else f"{row['mfu']:.0%}",
        "" if not peak else f"{peak / 2**30:.2f}",
        "" if begun or not row["compile_s"] else seconds(row["compile_s"]),
        "" if row is first else _relative(row, first, ratios),
        _parity(row),
    ]


def _relative(
    row: dict[str, Any], first: dict[str, Any] | None, ratios: list[dict[str, Any]]
) -> str:
    """The median over the first one's; the record has it the other way round."""
    names = (first["contestant"] if first else "", row["contestant"])
    for one in ratios:
        same = all(one[key] == row[key] for key in KEYS)
        if same and (one["numerator"], one["denominator"]) == names:
            return f"{1 / one['ratio']:.2f} ({1 / one['high']:.2f}–{1 / one['low']:.2f})"
    return ""


def _parity(row: dict[str, Any]) -> str:
    parity = row["parity"]
    if "worst" not in parity:
        return ""
    if parity["worst"] == "tokens":
        return "same tokens" if parity["ok"] else f"{parity['error_u']:.0f} other tokens"
    return f"{parity['error_u']:.3g} of {parity['limit_u']:.3g} u"


def growth(found: dict[str, Any]) -> Table:
    """Exponents of a step's time."""
    shown = Table(title="Growth: a step's time against one size", title_justify="left", box=None)
    for name in ("contestant", "size", "from", "to", "exponent", "R²"):
        shown.add_column(name)
    for one in found["growth"]:
        ends = [f"{one['sizes'][i]}: {seconds(one['median_s'][i])}" for i in (0, -1)]
        shown.add_row(
            one["contestant"],
            one["axis"],
            *ends,
            f"{one['exponent']:.2f}",
            f"{one['r_squared']:.3f}",
        )
    return shown


def good(found: dict[str, Any]) -> bool:
    """Whether there are results, and every contestant was timed."""
    rows = found["results"]
    certain = not any("oracle" in one["why"] for one in found["skipped"])
    return certain and bool(rows) and all(row["status"] == "timed" for row in rows)


def summary(found: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """The whole in one line of JSON."""
    rows = [row for row in found["results"] if row["workload"] != "growth"]
    medians: dict[str, dict[str, float | str]] = {}
    for row in rows:
        what = "/".join(str(row[key]) for key in ("workload", "variant", "preset") if row[key])
        value = row["median_s"] if row["status"] == "timed" else row["status"]
        medians.setdefault(what, {})[row["contestant"]] = value
    return {
        "ok": good(found),
        "device": found["environment"]["device"],
        "seconds": round(found["seconds"], 1),
        "json": str(path) if path else None,
        "median_s": medians,
    }
