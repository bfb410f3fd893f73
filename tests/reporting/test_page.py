"""The report page is whole, accessible, and the same every time."""

import base64
import hashlib
import re
from collections import Counter
from itertools import pairwise

import pytest

from bench.reporting import html, markdown
from tests.helpers.page import Element, sections_of, text_of
from twingrad import page as twingrad_page


def test_the_page_needs_nothing_from_elsewhere(page, text):
    for element in page.all():
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base"}
        for name in ("href", "src", "srcset", "data", "action", "style", "onclick", "xlink:href"):
            assert element.attributes.get(name, "#").startswith("#"), element
    script = page.one("script")
    assert script.attributes == {}
    assert script.text == twingrad_page.web("find.js")
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    assert len(text.encode()) < 5e6


@pytest.mark.slow
def test_ids_are_unique_and_what_points_at_one_finds_it(page):
    ids = Counter(e.attributes["id"] for e in page.all() if "id" in e.attributes)
    assert set(ids.values()) == {1}
    for element in page.all():
        named = element.attributes.get("aria-labelledby", "").split()
        if element.tag == "a":
            named.append(element.attributes["href"][1:])
        assert set(named) <= set(ids), element


def test_headings_are_in_order(page):
    levels = [int(e.tag[1]) for e in page.all() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_every_section_is_in_the_navigation_and_named_by_its_heading(page):
    links = [a.attributes["href"][1:] for a in page.one("nav").all("a")]
    assert links == sections_of(page)
    for section in page.all("section"):
        assert section.attributes["aria-labelledby"] == section.one("h2").attributes["id"]


def test_what_scrolls_can_be_reached_by_the_keyboard_and_has_a_name(page):
    scrolling = [
        e for e in page.all() if {"wide", "code"} & set(e.attributes.get("class", "").split())
    ]
    assert len(scrolling) > 50
    for element in scrolling:
        assert element.attributes["tabindex"] == "0"
        assert element.attributes["aria-label"]
        assert element.attributes["role"] == "group"


def test_every_table_has_a_caption_and_rows_as_wide_as_its_head(page):
    for table in page.all("table"):
        assert text_of(table.one("caption"))
        widths = [_width(row) for row in table.all("tr")]
        spans = [cell for cell in table.all("th") if "rowspan" in cell.attributes]
        if spans:  # a head of two lines, of which the first cell is one
            widths[1] += len(spans)
        assert len(set(widths)) == 1, text_of(table.one("caption"))


def _width(row):
    cells = [c for c in row.content if isinstance(c, Element)]
    return sum(int(cell.attributes.get("colspan", 1)) for cell in cells)


@pytest.mark.slow
def test_the_page_is_the_same_every_time(text):
    assert html.make() == text


def _colours():
    style = (markdown.ROOT / "bench" / "templates" / "report.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    return {"light": light, "dark": light | dark}


def _luminance(colour):
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_what_is_behind_them(scheme):
    colours = _colours()[scheme]
    code = ("keyword", "string", "number", "comment", "name", "builtin")
    behind = {
        "text": ("page", "panel", "differs", "word", "heat"),
        **dict.fromkeys(("muted", "link", "good", "bad", "torch", "jax"), ("page", "panel")),
        **dict.fromkeys(code, ("panel", "differs", "word")),
    }
    for letters, grounds in behind.items():
        for ground in grounds:
            low, high = sorted(_luminance(colours[name]) for name in (letters, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (letters, ground)
