"""The phrasebook and the defaults on the report page: whole, from their sources, found by name."""

import re

from bench.harness import records
from bench.reporting import phrases
from tests.helpers.page import text_of
from twingrad.phrases import book, sources

LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")


def test_every_phrase_is_on_the_page_with_the_code_of_both_halves(page):
    section = page.one("section", id="phrases")
    shown = {one.attributes["id"]: one for one in section.all("div", **{"data-kind": "phrase"})}
    assert len(shown) == sum(len(family.phrases) for family in book.FAMILIES)
    for family, phrase in book.entries():
        element = shown[f"phrase/{phrase.name}"]
        assert text_of(element.one("h4")) == " ".join(phrase.title.replace("`", "").split())
        assert element.attributes["data-words"] == phrase.words
        codes = [code.text.rstrip() for code in element.all("pre")]
        assert codes == [
            sources.source(side, family, phrase, common_imports=False).rstrip()
            for side in sources.FRAMEWORKS
        ]
        notes = [text_of(note) for note in element.all("p")]
        for note, said in zip(notes, ("Differs.", "Costs."), strict=False):
            text = f"{said} {phrase.differs if said == 'Differs.' else phrase.costs}"
            assert note == LINK.sub(r"\1", " ".join(text.replace("`", "").split()))


def test_no_note_shows_the_markdown_of_a_link(page):
    notes = [text_of(note) for note in page.one("section", id="phrases").all("p")]
    assert not [note for note in notes if "](" in note]
    assert any(LINK.search(phrase.differs) for _, phrase in book.entries())


def test_the_section_counts_its_phrases(page):
    section = page.one("section", id="phrases")
    total = sum(len(family.phrases) for family in book.FAMILIES)
    assert text_of(next(section.all("p"))).startswith(f"{total} idioms")
    counts = [text_of(summary.one("span")) for summary in section.all("summary")]
    assert counts == [f"{len(family.phrases)} phrases" for family in phrases.families()]


def test_every_measured_default_is_a_row_with_a_link_to_itself(page):
    rows = records.load("defaults-cpu")["rows"]
    section = page.one("section", id="defaults")
    shown = list(section.all("tr", **{"data-kind": "default"}))
    assert [text_of(row.one("th")) for row in shown] == [
        " ".join(row["topic"].replace("`", "").split()) for row in rows
    ]
    for row in shown:
        assert row.one("a").attributes["href"] == f"#{row.attributes['id']}"


def test_what_the_results_link_to_has_a_name_and_an_address(page):
    for definition in page.all("div", **{"class": "definition"}):
        assert definition.attributes["id"]
        (heading,) = (one for one in definition.content if getattr(one, "tag", "") == "h4")
        assert heading.one("a").attributes["href"] == f"#{definition.attributes['id']}"
