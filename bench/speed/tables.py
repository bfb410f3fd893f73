"""A benchmark record as tables on a terminal, and as one line of JSON."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.harness import terminal
from bench.harness.terminal import seconds
from bench.speed import derivation
from bench.speed.json_form import Json
from bench.speed.results import (
    Ceiling,
    Configuration,
    Growth,
    Ratio,
    Result,
    SkipReason,
    SpeedRecord,
)
from twingrad.folding import FoldingTable

HEAD = ("contestant", "median", "quartiles", "tokens/s", "MFU", "GiB", "compile", "ratio")

PARITY = (
    "Parity: the worst error and its limit in u, one unit of rounding error of the dtype, against "
    "a float64 run from the same parameters."
)


def groups(record: SpeedRecord) -> list[list[Result]]:
    """Rows that are compared with one another, in the order of the record."""
    order: dict[tuple[bool, Configuration], list[Result]] = {}
    for row in record.results:
        order.setdefault((row.on_ladder, row.configuration), []).append(row)
    return list(order.values())


def first_timed(rows: Iterable[Result]) -> Result | None:
    """The row that the others' ratios are to."""
    return next((row for row in rows if row.timing), None)


def title(row: Result) -> str:
    """The configuration of a group of rows, in a few words."""
    parts = [row.workload, row.variant, row.preset if row.variant != row.preset else ""]
    if row.workload == "decode":
        parts.append(f"{row.length} tokens, half of them the prompt")
    elif row.length:
        parts.append(f"B {row.batch_size}, T {row.length}")
    parts.append(row.dtype)
    return ", ".join(part for part in parts if part)


def show(console: Console, record: SpeedRecord) -> None:
    """Print tables of ceilings and results."""
    if record.ceilings:
        console.print(ceilings(record.ceilings))
    for rows in groups(record):
        if rows[0].workload != "growth":
            console.print(table(rows, record.ratios))
    if record.ratios:
        over = derivation.intervals(record.method, record.results)
        console.print(f"In brackets: {over}.", markup=False)
    if any(row.parity for row in record.results):
        console.print(PARITY, markup=False)
    if any(row.timing and not row.timing.clean for row in record.results):
        console.print(
            "* samples that other processes disturbed are in it: there were too few others"
        )
    if record.growth:
        console.print(growth(record.growth))
    for skipped in record.skipped:
        console.print(f"Not reached: {skipped.stage}, as {skipped.why}.", markup=False)
    spent = any(one.reason is SkipReason.BUDGET for one in record.skipped)
    if spent and not any(row.timing for row in record.results):
        console.print(
            "Nothing was timed within the budget: give a longer --budget, or wait until the "
            "machine has nothing else to do."
        )


def ceilings(measured: Sequence[Ceiling]) -> FoldingTable:
    """Rates of matrix products and of a copy, alone."""
    names = (*(product.name for product in measured[0].products), "copy")
    title = "Ceilings: matrix products alone, GFLOP/s; a copy, GB/s"
    shown = terminal.table("framework", *names, title=title, right=names)
    for one in measured:
        rates = [f"{product.flops_per_s / 1e9:,.0f}" for product in one.products]
        label = one.framework + (" tuned" if one.fast and one.framework == "torch" else "")
        shown.add_row(label, *rates, f"{one.copy_bytes_per_s / 1e9:.1f}")
    return shown


def table(rows: Sequence[Result], ratios: Sequence[Ratio]) -> FoldingTable:
    """One group: median, spread, and the ratio to the first that was timed."""
    first = first_timed(rows)
    names = [*head(first), "parity, worst"]
    shown = terminal.table(
        *names,
        title=title(rows[0]),
        right=tuple(names[1:]),
        below={"quartiles": "median", "compile": "GiB", names[-1]: names[-2]},
    )
    for row in rows:
        contestant, status, *others = cells(row, first, ratios)
        if row.timing is None:
            contestant, status = f"{contestant}: {status}", ""
        shown.add_row(*map(escape, (contestant, status, *others)))
    return shown


def head(first: Result | None) -> list[str]:
    """The names of the columns, but for parity."""
    return [*HEAD[:-1], f"ratio to {first.contestant}" if first else "ratio"]


def cells(row: Result, first: Result | None, ratios: Sequence[Ratio]) -> list[str]:
    """One row in words; a row that was not timed says why."""
    timing = row.timing
    if timing is None:
        return [row.contestant, row.status.text, *[""] * 6, _parity(row)]
    begun = row.workload in ("cold", "decode")
    return [
        row.contestant + ("" if timing.clean else " *"),
        seconds(timing.median_s),
        f"{seconds(timing.quartile_low_s)}–{seconds(timing.quartile_high_s)}",
        "" if timing.tokens_per_s is None else f"{timing.tokens_per_s:,.0f}",
        "" if timing.mfu is None else f"{timing.mfu:.0%}",
        "" if not timing.peak_bytes else f"{timing.peak_bytes / 2**30:.2f}",
        "" if begun or not timing.compile_s else seconds(timing.compile_s),
        "" if row is first else _relative(row, first, ratios),
        _parity(row),
    ]


def filled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """A head and rows without the columns that are empty in every row."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return [head[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _relative(row: Result, first: Result | None, ratios: Sequence[Ratio]) -> str:
    """The median over the first one's; the record has it the other way round."""
    names = (first.contestant if first else "", row.contestant)
    for one in ratios:
        pair = (one.numerator, one.denominator)
        if pair == names and one.configuration == row.configuration:
            return f"{1 / one.ratio:.2f} ({1 / one.high:.2f}–{1 / one.low:.2f})"
    return ""


def _parity(row: Result) -> str:
    parity = row.parity
    if parity is None:
        return ""
    if parity.worst == "tokens":
        return "same tokens" if parity.ok else f"{parity.error_u:.0f} other tokens"
    return f"{parity.error_u:.3g} of {parity.limit_u:.3g} u"


def growth(lines: Sequence[Growth]) -> FoldingTable:
    """Exponents of a step's time."""
    shown = terminal.table(
        *("contestant", "size", "from", "to", "exponent", "R²"),
        title="Growth: a step's time against one size",
    )
    for line in lines:
        shown.add_row(line.contestant, line.axis, *growth_cells(line))
    return shown


def growth_cells(line: Growth) -> list[str]:
    """The smallest and the largest size with their times, the exponent and its R²."""
    ends = [f"{line.sizes[i]}: {seconds(line.median_s[i])}" for i in (0, -1)]
    return [*ends, f"{line.exponent:.2f}", f"{line.r_squared:.3f}"]


def summary(record: SpeedRecord, path: Path | None) -> Json:
    """The whole in one line of JSON."""
    medians: dict[str, dict[str, float | str]] = {}
    for row in record.results:
        if row.workload != "growth":
            name = "/".join(part for part in (row.workload, row.variant, row.preset) if part)
            value = row.timing.median_s if row.timing else row.status.text
            medians.setdefault(name, {})[row.contestant] = value
    return {
        "ok": record.ok,
        "device": record.environment["device"],
        "seconds": round(record.seconds, 1),
        "json": str(path) if path else None,
        "median_s": medians,
    }
