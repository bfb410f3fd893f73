"""The page of a comparison: self-contained, and every name in it is text."""

from html.parser import HTMLParser

import pytest

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

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
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
def test_every_name_on_the_page_is_text(ok):
    page = _page(EVIL, ok)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) == (5 if ok else 6)


def test_the_page_asks_for_nothing_outside_itself():
    page = _page("pair", ok=True)
    assert not any({"src", "href", "srcset"} & {*names} for _, names in page.tags)
    policy = [names["content"] for _, names in page.tags if "http-equiv" in names]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "2−24 for float32" in page.text
