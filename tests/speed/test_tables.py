"""The tables of a benchmark fit their console, and say why a contestant was not timed."""

from dataclasses import replace

import pytest

from bench.speed import tables
from bench.speed.record import load
from bench.speed.results import Outcome, Skipped, SkipReason, Status
from tests.helpers.consoles import assert_fits, shown


@pytest.mark.parametrize("name", ["speed-124m-cpu", "speed-growth-cpu"])
def test_the_tables_of_a_record_fit(name):
    assert_fits(lambda console: tables.show(console, load(name)))


def test_the_whole_message_of_a_failure_is_shown():
    record = load("speed-124m-cpu")
    message = "RuntimeError: " + "a long message " * 8 + "and its end"
    failed = replace(record.results[0], timing=None, status=Status(Outcome.FAILED, message))
    why = "10 s of the budget of 180 s were left"
    skipped = (Skipped("decode", why, SkipReason.BUDGET),)
    record = replace(record, results=(failed, *record.results[1:]), skipped=skipped)
    assert_fits(lambda console: tables.show(console, record))
    text = " ".join(shown(lambda console: tables.show(console, record), 400).split())
    assert message in text
    assert why in text
