"""Results of planted bugs: their JSON, and the tables made of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from bench.harness import terminal
from bench.harness.frameworks import NAMES
from bench.harness.records import load
from twingrad.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one bug in one framework: the gate that it failed, how far, and where first.

    ``error_ratio`` is the worst error over its limit.
    """

    name: str
    framework: str
    about: str
    program: str
    caught: bool
    gate: str | None = None
    dtype: str | None = None
    error_ratio: float | None = None
    first: str | None = None


@dataclass(kw_only=True)
class Report:
    """The programs without a bug, and every bug in every framework."""

    clean: list[Outcome]
    results: list[Result] = field(default_factory=list)

    @property
    def clean_ok(self) -> bool:
        """Whether every gate holds where nothing was planted."""
        return bool(self.clean) and all(outcome.ok for outcome in self.clean)

    @property
    def caught(self) -> int:
        """How many of the planted bugs a gate caught."""
        return sum(result.caught for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every planted bug was caught, and nothing where there was none."""
        return self.clean_ok and bool(self.results) and self.caught == len(self.results)


def report_object(report: Report) -> dict[str, object]:
    """The report as the JSON contract has it."""
    rows = []
    for result in report.results:
        ratio = result.error_ratio
        rows.append(
            {
                "name": result.name,
                "side": result.framework,
                "about": result.about,
                "program": result.program,
                "caught": result.caught,
                "gate": result.gate,
                "dtype": result.dtype,
                "factor": None if ratio is None else float(f"{ratio:.6g}"),
                "first": result.first,
            }
        )
    return {"ok": report.ok, "clean_ok": report.clean_ok, "mutants": rows}


def _by_bug(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """The results of each bug, by framework."""
    by_bug: dict[str, dict[str, Result]] = {}
    for result in results:
        by_bug.setdefault(result.name, {})[result.framework] = result
    return by_bug


def render(console: Console, report: Report) -> None:
    """Print the bugs, the gate that caught each in either framework, and how many were caught."""
    rows = terminal.table("planted bug", *(terminal.NAMES[name] for name in NAMES))
    for bug, of in _by_bug(report.results).items():
        about = next(iter(of.values())).about
        cells = [_cell(of.get(name)) for name in NAMES]
        rows.add_row(f"{escape(bug)}  [dim]{escape(about)}[/dim]", *cells)
    rows.note = "The gate that caught it, and how many times its limit the worst error is."
    terminal.put(console, rows)
    for outcome in report.clean:
        if not outcome.ok:
            gate = outcome.gates[-1]
            console.print(
                f"[red]{outcome.program} without a bug fails[/red] gate {gate.name} in "
                f"{outcome.dtype} at {escape(gate.worst.name)}."
            )
    caught = f"{report.caught} of {len(report.results)} planted bugs caught"
    trips = "nothing trips" if report.clean_ok else "a gate trips"
    console.print(f"{caught}; {trips} where there is none.")


def _cell(result: Result | None) -> str:
    if result is None:
        return "[dim]–[/dim]"
    if not result.caught:
        return f"[red]not caught{f': {result.gate}' if result.gate else ''}[/red]"
    if result.error_ratio is None:
        return f"{result.gate}"
    where = result.gate if result.gate == result.dtype else f"{result.gate}, {result.dtype}"
    return f"{where} ×{terminal.units(result.error_ratio)}"


def markdown(argument: str) -> str:
    """The table of planted bugs: which gate caught each, and by what ratio of error to limit."""
    record = load(argument)
    results = [
        Result(
            name=row["name"],
            framework=row["side"],
            about=row["about"],
            program=row["program"],
            caught=row["caught"],
            gate=row["gate"],
            error_ratio=row["factor"],
        )
        for row in record["mutants"]
    ]
    lines = ["| planted bug | in PyTorch | in JAX |", "|---|---|---|"]
    for of in _by_bug(results).values():
        about = next(iter(of.values())).about
        cells = [_markdown_cell(of.get(name)) for name in NAMES]
        lines.append(f"| {about} | {cells[0]} | {cells[1]} |")
    caught = sum(result.caught for result in results)
    trips = "nothing trips" if record["clean_ok"] else "a gate trips"
    lines += ["", f"{caught} of {len(results)} caught; {trips} where there is none."]
    return "\n".join(lines)


def _markdown_cell(result: Result | None) -> str:
    if result is None:
        return "–"
    if not result.caught:
        return "**not caught**"
    ratio = result.error_ratio
    return f"{result.gate}" + ("" if ratio is None else f", {_times(ratio)}")


def _times(ratio: float) -> str:
    if ratio >= 1e299:
        return "not a number"
    return f"{ratio:,.0f}×" if 10 <= ratio < 1e6 else f"{ratio:.2g}×"
