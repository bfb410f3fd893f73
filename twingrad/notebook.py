"""Results as pieces of HTML, as a notebook shows them: no script, no style sheet, names escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from twingrad import finding_tables
from twingrad.diagnosis.finding import Finding, PartObject
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome, divergence_sentence
from twingrad.outcome_tables import DEFINITIONS, ERRORS, WORST, error_cells, units_of

# Both are readable on white and on black.
_COLOURS = {"equal": "#2e8b57", "DIFFERS": "#d9534f"}
_GATES = ("gate", "dtype", "tensors", "worst tensor", *ERRORS, "")
_TENSORS = ("tensor", "kind", *ERRORS, "")
_FINDINGS = ("stage", "where", "cause", "evidence")


def comparison_html(
    name: str, outcomes: Sequence[Outcome], found: Sequence[Finding], hint: str | None
) -> str:
    """The verdict, every gate, and where one does not hold: the worst tensors, place and cause."""
    tensors = sum(len(gate.tensors) for outcome in outcomes for gate in outcome.gates)
    ok = all(outcome.ok for outcome in outcomes)
    word = "Equal" if ok else "Not equal"
    parts = [
        f"<p>{_coloured(word, ok)}: {escape(name)}, {tensors:,} tensors judged</p>",
        _table(_GATES, (_gate(o, gate) for o in outcomes for gate in o.gates)),
    ]
    for outcome in outcomes:
        if outcome.ok:
            continue
        parts.append(f"<p>{escape(divergence_sentence(outcome))}</p>")
        for gate in outcome.gates:
            if not gate.ok:
                worst = gate.worst_first[:WORST]
                parts.append(_table(_TENSORS, (_tensor(gate, outcome, t) for t in worst)))
    for basis in dict.fromkeys(o.basis for o in outcomes if o.basis is not None):
        parts.append(f"<p>{escape(basis.sentence)}</p>")
    if found:
        parts.append(findings_html(name, found))
    if hint and not ok:
        parts.append(f"<p>{escape(hint)}</p>")
    notes = f"{units_of(outcome.dtype for outcome in outcomes)} {DEFINITIONS}"
    parts.append(f"<p><small>{escape(notes)}</small></p>")
    return f"<div>{''.join(parts)}</div>"


def findings_html(name: str, found: Sequence[Finding], part: PartObject | None = None) -> str:
    """The findings as a table, or the sentence that there are none."""
    if not found:
        sentence = finding_tables.equal(part)
        return f"<p>{_coloured('Equal', ok=True)}: {escape(f'{name}: {sentence}')}</p>"
    rows = (
        [escape(f.stage), _code(f.where), escape(f.cause or finding_tables.UNKNOWN),
         f"<small>{escape(f.evidence)}</small>"]
        for f in found
    )  # fmt: skip
    return (
        "<p>Where the two part, each from the same inputs, the largest difference first:</p>"
        + _table(_FINDINGS, rows)
    )


def _gate(outcome: Outcome, gate: Gate) -> list[str]:
    name = gate.name if gate.name != outcome.dtype else "forward, backward"
    start = [escape(name), escape(outcome.dtype), f"{len(gate.tensors):,}"]
    if not gate.tensors:
        return [*start, *[""] * (1 + len(ERRORS)), _verdict(gate.ok)]
    cells = error_cells(gate.name, outcome.dtype, gate.worst)
    return [*start, _code(gate.worst.name), *cells, _verdict(gate.ok)]


def _tensor(gate: Gate, outcome: Outcome, tensor: Verdict) -> list[str]:
    cells = error_cells(gate.name, outcome.dtype, tensor)
    return [_code(tensor.name), escape(tensor.kind), *cells, _verdict(tensor.ok)]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of ``rows``, whose cells are HTML already."""
    left = 'style="text-align: left"'
    head = "".join(f"<th {left}>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td {left}>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _verdict(ok: bool) -> str:
    return _coloured("equal" if ok else "DIFFERS", ok)


def _coloured(word: str, ok: bool) -> str:
    return f'<b style="color: {_COLOURS["equal" if ok else "DIFFERS"]}">{escape(word)}</b>'


def _code(name: str) -> str:
    return f"<code>{escape(name)}</code>"
