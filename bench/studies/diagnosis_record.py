"""The record of the accuracy of diagnosis: its form, and its tables in Markdown."""

from typing import NotRequired, TypedDict, cast

from bench.harness import terminal
from bench.harness.records import Record, load
from twingrad.diagnosis.finding import Mode, Stage


class Diagnosis(TypedDict):
    """A finding as the record has it; without a divergence ``evidence`` says what happened.

    Records made before the last four keys existed are read too.
    """

    stage: Stage | None
    where: str | None
    cause: str | None
    evidence: str
    torch_cause: NotRequired[str | None]
    jax_cause: NotRequired[str | None]
    dtype: NotRequired[str | None]
    mode: NotRequired[Mode | None]


class BugRow(Diagnosis):
    """The diagnosis of one bug planted alone."""

    name: str
    side: str
    about: str
    program: str
    located: bool
    named: bool


class PairRow(Diagnosis):
    """The diagnosis of two bugs planted together."""

    bugs: list[str]
    expected: list[str]
    located: bool


class CleanRow(TypedDict):
    """The findings in a program without a bug."""

    program: str
    findings: list[Diagnosis]


class Report(TypedDict):
    """The record."""

    sources: str
    clean: list[CleanRow]
    bugs: list[BugRow]
    pairs: list[PairRow]
    environment: NotRequired[object]


def diagnosed(report: Report) -> list[tuple[str, int, int]]:
    """Each measure of accuracy: its name, how often diagnosis was right, and of how many."""
    bugs, pairs, clean = report["bugs"], report["pairs"], report["clean"]
    return [
        ("bugs planted alone, located", sum(row["located"] for row in bugs), len(bugs)),
        ("bugs planted alone, named", sum(row["named"] for row in bugs), len(bugs)),
        ("pairs of bugs, the first of them located", sum(r["located"] for r in pairs), len(pairs)),
        ("programs without a bug, nothing found",
         sum(not row["findings"] for row in clean), len(clean)),
    ]  # fmt: skip


def diagnosis(argument: str) -> str:
    """A table of how often diagnosis was right."""
    lines = ["| | right | of | |", "|---|---|---|---|"]
    for measure, right, of in diagnosed(_load(argument)):
        lines.append(f"| {measure} | {right} | {of} | {right / of:.1%} |")
    return "\n".join(lines)


def undiagnosed(argument: str) -> str:
    """Tables of the bugs, and pairs of bugs, that were not located or not named."""
    report = _load(argument)
    wrong = [row for row in report["bugs"] if not (row["located"] and row["named"])]
    lines = ["| planted bug | in | located | named | what was said |", "|---|---|---|---|---|"]
    for bug in wrong:
        marks = ["yes" if right else "**no**" for right in (bug["located"], bug["named"])]
        lines.append(_row([bug["about"], terminal.NAMES[bug["side"]], *marks, in_one_line(bug)]))
    pairs = [row for row in report["pairs"] if not row["located"]]
    if pairs:
        lines += ["", "| pair of bugs | expected first | what was said |", "|---|---|---|"]
    for pair in pairs:
        bugs, expected = " and ".join(pair["bugs"]), " or ".join(pair["expected"])
        lines.append(_row([bugs, expected, in_one_line(pair)]))
    return "\n".join(lines) if wrong or pairs else "Every bug was located and named."


def diagnoses(argument: str) -> str:
    """A table of the diagnosis of every planted bug."""
    lines = ["| planted bug | in | what was said |", "|---|---|---|"]
    for row in _load(argument)["bugs"]:
        lines.append(_row([row["about"], terminal.NAMES[row["side"]], in_one_line(row)]))
    return "\n".join(lines)


def as_report(record: Record) -> Report:
    """The record in its own form."""
    return cast(Report, record.as_object())


def _load(name: str) -> Report:
    return as_report(load(name))


def in_one_line(row: Diagnosis) -> str:
    """A diagnosis in one line."""
    if row["stage"] is None:
        return row["evidence"]
    return f"{row['stage']} of `{row['where']}`: {row['cause'] or 'no known cause'}"


def _row(cells: list[str]) -> str:
    safe = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(safe)} |"
