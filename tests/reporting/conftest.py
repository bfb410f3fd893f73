"""The report page, made once, and the record of the comparison it shows."""

import pytest

from bench.harness import records as harness_records
from bench.reporting import html
from tests.helpers.page import read


@pytest.fixture(scope="session")
def text():
    return html.make()


@pytest.fixture(scope="session")
def page(text):
    return read(text)


@pytest.fixture(scope="session")
def comparison():
    return harness_records.load("compare-cpu").as_object()


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An empty folder in the place of the committed records."""
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    return tmp_path
