"""A comparison as one HTML page that needs nothing else: no script, no request."""

import math
from collections.abc import Iterable
from html import escape
from string import Template

from twingrad.environment import Environment
from twingrad.numerics import UNIT_ROUNDOFF, Verdict
from twingrad.outcome import Gate, Outcome
from twingrad.outcome_tables import RULES
from twingrad.terminal import units

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>$name: PyTorch and JAX compared</title>
<style>
:root { --ink: #1c2330; --soft: #5a6475; --line: #d8dde6; --paper: #ffffff; --equal: #1a6b3c;
  --differs: #b3261e; --wrong: #fdecea; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --soft: #9aa5b8; --line: #343c4a; --paper: #14181f; --equal: #6fcf97;
    --differs: #ff8a80; --wrong: #3a1d1c; }
}
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 64rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .25rem; }
p { margin: .25rem 0; max-width: 45rem; }
.soft, dt, th { color: var(--soft); }
.equal { color: var(--equal); font-weight: 600; }
.differs { color: var(--differs); font-weight: 600; }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td:first-child { font-family: ui-monospace, monospace; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.over td { background: var(--wrong); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .875rem; }
sup { line-height: 0; }
dd { margin: 0; }
</style>
</head>
<body>
<main>
<h1>$name: PyTorch and JAX compared</h1>
<p>$verdict</p>
<p class="soft">Errors are relative, in units of u: one unit of rounding error of the dtype,
$roundoff. The limit is what the gate allows.</p>
$gates
<h2>Measured with</h2>
<dl>
$facts
</dl>
</main>
</body>
</html>
""")
_GATE = Template("""<section>
<h2>$dtype: <span class="$word">$word</span></h2>
<p>$place</p>
<p class="soft">What is judged: $rule. Tensors stand in the order of computation.</p>
<div class="wide" tabindex="0" role="region" aria-label="tensors in $dtype">
<table>
<thead><tr><th scope="col">tensor</th><th scope="col">kind</th>
<th scope="col" class="number">PyTorch</th><th scope="col" class="number">JAX</th>
<th scope="col" class="number">apart</th><th scope="col" class="number">limit</th>
<th scope="col">verdict</th></tr></thead>
<tbody>
$rows
</tbody>
</table>
</div>
</section>""")


def comparison_page(outcomes: list[Outcome], environment: Environment) -> str:
    """The page of one pair's ``outcomes``; every name in it is text, whatever characters it has."""
    tensors = sum(len(gate.tensors) for outcome in outcomes for gate in outcome.gates)
    ok = all(outcome.ok for outcome in outcomes)
    dtypes = dict.fromkeys(outcome.dtype for outcome in outcomes)
    return _PAGE.substitute(
        name=escape(outcomes[0].program),
        verdict=f'<span class="{_word(ok)}">{"Equal" if ok else "Not equal"}</span>: '
        f"{tensors:,} tensors judged, "
        f"{'every gate holds' if ok else 'see the rows that differ'}.",
        roundoff=" and ".join(f"2<sup>{_power(dtype)}</sup> for {dtype}" for dtype in dtypes),
        gates="\n".join(_gate(outcome, gate) for outcome in outcomes for gate in outcome.gates),
        facts="\n".join(_facts(environment)),
    )


def _gate(outcome: Outcome, gate: Gate) -> str:
    places = {"forward": outcome.first_forward, "backward": outcome.first_backward}
    first = [f"{way} at {escape(place)}" for way, place in places.items() if place]
    return _GATE.substitute(
        dtype=escape(outcome.dtype),
        word=_word(gate.ok),
        rule=escape(RULES[gate.name]),
        place=f"The sides first diverge {', '.join(first)}."
        if first
        else "No tensor is over its limit.",
        rows="\n".join(map(_row, gate.tensors)),
    )


def _row(tensor: Verdict) -> str:
    errors = (tensor.torch_error_u, tensor.jax_error_u, tensor.mutual_error_u, tensor.limit_u)
    over = "" if tensor.ok else ' class="over"'
    numbers = "".join(f'<td class="number">{units(error)} u</td>' for error in errors)
    return (
        f"<tr{over}><td>{escape(tensor.name)}</td>"
        f"<td>{escape(tensor.kind)}</td>{numbers}"
        f'<td class="{_word(tensor.ok)}">{_word(tensor.ok)}</td></tr>'
    )


def _power(dtype: str) -> str:
    return f"{round(math.log2(UNIT_ROUNDOFF[dtype]))}".replace("-", "−")


def _word(ok: bool) -> str:
    return "equal" if ok else "differs"


def _facts(environment: Environment) -> Iterable[str]:
    hardware, commit = environment["hardware"], environment["commit"]
    facts = {"processor": hardware["processor"], "system": hardware["system"]}
    facts |= environment["versions"]
    if "id" in commit:
        facts["commit"] = commit["id"] + (" with changes" if commit["dirty"] else "")
    return (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
