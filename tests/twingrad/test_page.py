"""The page of a comparison: self-contained, and every name in it is text."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest

from twingrad import page as twingrad_page
from twingrad.anchors import Anchors, slug
from twingrad.environment import Environment
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome
from twingrad.page import comparison_page

EVIL = "<script>alert(1)</script>&\"'$x"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.script = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.script += data
        self.text += data


def _page(name: str, ok: bool) -> _Reader:
    errors = {"torch_error_u": 1e300, "jax_error_u": 2.0, "mutual_error_u": 3.0}
    limits = {"peak_error_u": 1.0, "limit_u": 4.0, "peak_limit_u": 4.0}
    verdict = Verdict(name=name, kind="activation", **errors, **limits, ok=ok, error_ratio=0.5)
    outcome = Outcome(
        program=name, preset=None, dtype="float32", device="cpu",
        gates=[Gate(name="float32", tensors=[verdict])], first_forward=None if ok else name,
    )  # fmt: skip
    hardware = {"processor": EVIL, "cores": 2, "memory_bytes": 1, "system": "Linux"}
    facts: Environment = {
        "device": "cpu", "hardware": hardware, "versions": {"torch": EVIL}, "commit": {},
    }  # type: ignore[typeddict-item]  # fmt: skip
    reader = _Reader()
    reader.feed(comparison_page([outcome], facts))
    return reader


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.attack("sentences")
def test_every_name_on_the_page_is_text(ok):
    page = _page(EVIL, ok)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.script == twingrad_page.web("find.js")
    assert page.text.count(EVIL) == (5 if ok else 6)
    assert not any(name.startswith("on") for _, names in page.tags for name in names)


def test_the_page_asks_for_nothing_outside_itself():
    page = _page("pair", ok=True)
    assert not any({"src", "srcset"} & {*names} for _, names in page.tags)
    ids = {names["id"] for _, names in page.tags if "id" in names}
    links = {names["href"] for _, names in page.tags if "href" in names}
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= ids
    policy = [names["content"] for _, names in page.tags if "http-equiv" in names]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    assert "2−24 for float32" in page.text


def test_a_tensor_is_linked_by_its_name_and_not_by_its_place():
    page = _page("h.0.ln_1:output", ok=True)
    assert any(names.get("id") == "tensor/float32/h.0.ln_1:output" for _, names in page.tags)


def test_identifiers_keep_names_apart_and_hold_no_space():
    anchors = Anchors()
    assert [anchors.new("a b"), anchors.new("a-b"), anchors.new("a b:2")] == [
        "a-b", "a-b:2", "a-b:2:2",
    ]  # fmt: skip
    assert slug("gpt2", None, "h.0.ln_1:output") == "gpt2/h.0.ln_1:output"
