"""A comparison as one HTML page that needs nothing else: no request, and no script but its own."""

import base64
import hashlib
import math
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib import resources
from string import Template

from twingrad.anchors import Anchors
from twingrad.environment import Environment
from twingrad.numerics import UNIT_ROUNDOFF, Verdict
from twingrad.outcome import Gate, Outcome, divergence_sentence
from twingrad.outcome_tables import RULES, error_cells
from twingrad.terminal import NAMES


@cache
def web(name: str) -> str:
    """The text of one file of ``twingrad/web``: the style, the script and the parts of a page."""
    return (resources.files("twingrad") / "web" / name).read_text(encoding="utf-8")


def policy() -> str:
    """What a page may do, for its ``Content-Security-Policy``: run ``find.js``, and load nothing.

    The script is named by its digest, so that no other text of the page could run as one.
    """
    digest = base64.b64encode(hashlib.sha256(web("find.js").encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def comparison_page(
    outcomes: list[Outcome], environment: Environment, hint: str | None = None
) -> str:
    """The page of one pair's ``outcomes``; every name in it is text, whatever characters it has.

    ``hint`` says what to call where a gate differs.
    """
    tensors = sum(len(gate.tensors) for outcome in outcomes for gate in outcome.gates)
    ok = all(outcome.ok for outcome in outcomes)
    dtypes = dict.fromkeys(outcome.dtype for outcome in outcomes)
    anchors = Anchors()
    gates = [
        (anchors.new("gate", outcome.dtype, _rule(outcome, gate)), outcome, gate)
        for outcome in outcomes
        for gate in outcome.gates
    ]
    return Template(web("page.html")).substitute(
        name=escape(outcomes[0].program),
        policy=policy(),
        style=web("page.css") + web("find.css"),
        script=web("find.js"),
        form=web("find.html"),
        word=_word(ok),
        short="Equal" if ok else "Not equal",
        links="\n".join(
            f'<li><a href="#{place}">{escape(_title(outcome, gate))}</a></li>'
            for place, outcome, gate in gates
        ),
        verdict=f'<span class="{_word(ok)}">{"Equal" if ok else "Not equal"}</span>: '
        f"{tensors:,} tensors judged, "
        f"{'every gate holds' if ok else 'see the rows that differ'}."
        + "".join(f" {escape(o.basis.sentence)}" for o in outcomes if o.basis is not None)
        + (f" {escape(hint)}" if hint and not ok else ""),
        roundoff=" and ".join(f"2<sup>{_power(dtype)}</sup> for {dtype}" for dtype in dtypes),
        gates="\n".join(_gate(place, outcome, gate, anchors) for place, outcome, gate in gates),
        facts="\n".join(_facts(environment)),
    )


def _rule(outcome: Outcome, gate: Gate) -> str | None:
    """The name of a gate that is not the forward and backward pass of its dtype."""
    return None if gate.name == outcome.dtype else gate.name


def _title(outcome: Outcome, gate: Gate) -> str:
    return ", ".join(filter(None, (outcome.dtype, _rule(outcome, gate))))


def _gate(place: str, outcome: Outcome, gate: Gate, anchors: Anchors) -> str:
    return Template(web("gate.html")).substitute(
        id=place,
        dtype=escape(outcome.dtype),
        title=escape(_title(outcome, gate)),
        word=_word(gate.ok),
        rule=escape(RULES[gate.name]),
        place="No tensor is over its limit." if gate.ok else escape(divergence_sentence(outcome)),
        rows="\n".join(
            _row(
                anchors.new("tensor", *place.split("/")[1:], tensor.name),
                error_cells(gate.name, outcome.dtype, tensor),
                tensor,
            )
            for tensor in gate.tensors
        ),
    )


def _row(place: str, errors: list[str], tensor: Verdict) -> str:
    side = farther_off(tensor)
    facets = f' data-side="{side}"' if side else ""
    over = "" if tensor.ok else ' class="over"'
    shown = (f"{error} u" if error else "" for error in errors)  # empty where nothing was measured
    numbers = "".join(f'<td class="number">{error}</td>' for error in shown)
    return (
        f'<tr id="{place}"{over} data-verdict="{_word(tensor.ok)}"{facets}><th scope="row">'
        f'<a class="self" href="#{place}">{escape(tensor.name)}</a></th>'
        f"<td>{escape(tensor.kind)}</td>{numbers}"
        f'<td class="{_word(tensor.ok)}">{_word(tensor.ok)}</td></tr>'
    )


def farther_off(tensor: Verdict) -> str:
    """The name of the framework whose error is the larger one; empty where both are the same."""
    if tensor.torch_error_u == tensor.jax_error_u:
        return ""
    return NAMES["torch" if tensor.torch_error_u > tensor.jax_error_u else "jax"]


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
