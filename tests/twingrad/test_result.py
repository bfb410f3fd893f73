"""Results in Python and in notebooks: text, HTML and what is true of them."""

from html.parser import HTMLParser

import pytest

from twingrad import Comparison, Findings, NotEqual
from twingrad.diagnosis.finding import Cause, Finding
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome, divergence_places, divergence_sentence, outcome_object

EVIL = "<script>alert(1)</script>&\"'[red]x"


class _Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def _outcome(ok: bool, name: str = "fc", kind: str = "activation", **given) -> Outcome:
    errors = {"torch_error_u": 9.0, "jax_error_u": 9.0, "mutual_error_u": 9.0, "peak_error_u": 9.0}
    verdict = Verdict(
        name=name, kind=kind, **errors, limit_u=4.0, peak_limit_u=4.0, ok=ok, error_ratio=2.25
    )
    gate = Gate(name="float64", tensors=[verdict])
    return Outcome(
        program=name, preset=None, dtype="float64", device="cpu", gates=[gate], **given
    )  # fmt: skip


def _finding(name: str = "fc", cause: str | None = "the bias is left out") -> Finding:
    reason = Cause.statement(cause) if cause else None
    return Finding(stage="forward", where=name, reason=reason, evidence=f"{name} is far off")


def _different(name: str = "fc") -> Comparison:
    findings = Findings([_finding(name, name)], name)
    outcome = _outcome(False, name, first_forward=name)
    return Comparison(name=name, outcomes=[outcome], findings=findings, hint=f"diagnose {name}")


def test_a_comparison_goes_through_its_outcomes():
    equal = Comparison(name="pair", outcomes=[_outcome(True)])
    assert equal.ok
    assert [outcome.dtype for outcome in equal] == ["float64"]
    assert (len(equal), equal[0]) == (1, equal.outcomes[0])
    assert repr(equal) == "<pair: equal, 1 tensors judged in float64>"
    assert not Comparison(name="pair", outcomes=[]).ok


def test_the_table_is_text_with_the_place_the_hint_and_the_cause():
    text = _different().table()
    assert "\x1b" not in text
    assert "the sides first diverge forward at fc." in text
    assert "diagnose fc" in text
    assert "Where the two part" in text
    assert str(_different()) == text
    assert max(map(len, _different().table(width=60).splitlines())) <= 60


def test_findings_are_a_list_that_is_empty_where_the_models_are_equal():
    none, some = Findings(), Findings([_finding(), _finding("norm")], "mine")
    assert (none.ok, bool(none), none) == (True, False, [])
    assert (some.ok, len(some), some[0].where) == (False, 2, "fc")
    assert repr(none) == "<pair: no divergence>"
    assert repr(some) == "<mine: forward of fc: the bias is left out and 1 more>"
    assert "no divergence" in none.table()
    assert "the bias is left out" in str(some)


@pytest.mark.parametrize("result", [_different(EVIL), Findings([_finding(EVIL, EVIL)], EVIL)])
def test_every_name_in_a_notebook_is_text(result):
    seen = _Reader(result._repr_html_())
    assert "script" not in seen.tags
    assert "table" in seen.tags
    assert seen.text.count(EVIL) >= 3


def test_a_notebook_shows_place_cause_and_hint_of_a_difference():
    text = _Reader(_different()._repr_html_()).text
    for words in ("Not equal", "first diverge forward at fc", "is far off", "diagnose fc"):
        assert words in text
    equal = _Reader(Comparison(name="pair", outcomes=[_outcome(True)])._repr_html_()).text
    assert equal.startswith("Equal: pair, 1 tensors judged")
    assert "diverge" not in equal
    assert "no divergence" in Findings()._repr_html_()


def test_a_failed_claim_begins_with_the_place_and_holds_the_tables():
    error = NotEqual(_different())
    assert isinstance(error, AssertionError)
    first, *rest = str(error).splitlines()
    assert first == "forward of fc: fc (fc is far off)"
    assert "\n".join(rest).strip() == error.comparison.table()


@pytest.mark.parametrize("kind", ["value", "update", "metric", "activation"])
def test_a_failing_outcome_always_says_where(kind):
    """Not all gates know a module: then it is the first tensor over its limit."""
    outcome = _outcome(False, kind=kind)
    assert divergence_places(outcome) == [f"at fc ({kind})"]
    assert divergence_sentence(outcome).endswith(f"the sides first diverge at fc ({kind}).")
    place = outcome_object(outcome)["first_divergence"]
    assert place == {"forward": None, "backward": None, "gate": "float64", "tensor": "fc"}


def test_the_gate_that_is_named_is_the_first_that_fails():
    outcome = _outcome(False)
    outcome.gates = [*_outcome(True).gates, *outcome.gates, *_outcome(True).gates]
    outcome.gates[1] = Gate(name="optimizer", tensors=outcome.gates[1].tensors)
    assert "gate optimizer" in divergence_sentence(outcome)


def test_an_outcome_that_holds_has_no_place():
    assert divergence_places(_outcome(True)) == []
    assert outcome_object(_outcome(True))["first_divergence"]["tensor"] is None


def test_an_outcome_that_judged_nothing_says_so():
    outcome = Outcome(program="p", preset=None, dtype="float64", device="cpu")
    assert "nothing was judged" in divergence_sentence(outcome)
