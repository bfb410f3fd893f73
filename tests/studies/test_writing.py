"""The study of readable texts: what it counts, and that its bounds can be broken."""

import copy

import pytest

from bench.harness import records
from bench.harness.records import Record
from bench.studies import writing
from bench.studies.writing import Counts, closes

RUN = {
    "preset": "writer",
    "framework": "torch",
    "seconds": 300.0,
    "processor_s": 500.0,
    "validation_loss": 3.0,
    "bytes_per_token": 3.0,
    "words": 100,
    "known": 90,
    "opening": 50,
    "closed": 45,
    "texts": ["def mean(values):\n    return sum(values)\n"],
}


@pytest.mark.parametrize(
    ("line", "closed"),
    [
        ("x = 1", None),
        ("", None),
        ("    )", None),
        ("f(x)", True),
        ("f(x[0], {1: (2)})", True),
        ("f(x", False),
        ("f(x]", False),
        ("([)]", False),
        (") + f(x)", False),
        ("f(x))", False),
    ],
)
def test_a_line_closes_what_it_opens(line, closed):
    assert closes(line) is closed


def test_words_and_lines_are_counted_in_whole_lines_after_the_prompt():
    texts = [("unseen ", "the wrod\nread_text2(\nf(x) cut(")]
    counts = Counts.of(texts, {"the", "read", "text", "cut"})
    # "unseen" is the prompt's, "cut" stands on a line that has no end, "f" and "x" are too short.
    assert counts == Counts(words=4, known=3, opening=1, closed=0)


def test_a_line_that_the_prompt_began_counts_with_its_bracket():
    assert Counts.of([("def f(", "x):\n")], set()) == Counts(words=0, known=0, opening=1, closed=1)
    assert Counts.of([("def f(", "x):")], set()) == Counts(words=0, known=0, opening=0, closed=0)


def test_words_differ_by_upper_and_lower_case():
    assert Counts.of([("", "Path path\n")], {"path"}).known == 1


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({"known": 79}, False),
        ({"closed": 39}, False),
        ({"seconds": 601.0}, True),
        ({"seconds": 601.0, "processor_s": 601.0}, False),
        ({"preset": "tiny", "known": 0}, True),
    ],
)
def test_a_bound_that_is_broken_is_seen(change, holds):
    record = Record({}, {"runs": [copy.deepcopy(RUN), copy.deepcopy(RUN) | change]})
    assert writing.holds(record) is holds


def test_the_record_keeps_its_bounds_and_counts_its_own_texts():
    record = records.load("writing-cpu")
    assert writing.holds(record)
    prompts = record["prompts"] * len(record["seeds"])
    for run in record["runs"]:
        texts = map(writing.continued, prompts, run["texts"])
        counts = Counts.of(texts, set())
        assert (counts.words, counts.opening) == (run["words"], run["opening"])
        assert counts.closed == run["closed"]
