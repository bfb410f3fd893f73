"""Committed records, and edited ones."""

import json

import pytest

from bench.harness import records
from bench.speed import record as record_module
from bench.speed.results import SpeedRecord

RECORDS = sorted((records.ROOT / "bench" / "results").glob("speed-*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_holds(path):
    assert "every figure follows" in record_module.check(path)


@pytest.mark.parametrize("key", ["tokens_per_s", "mfu", "compile_s", "clean", "step_s"])
@pytest.mark.parametrize("path", RECORDS[:1], ids=lambda path: path.stem)
def test_an_edited_rate_is_refused(path, key):
    found = json.loads(path.read_text())
    row = found["results"][0]
    row[key] = (not row[key]) if key == "clean" else row[key] * 1.01
    [problem] = record_module.problems(found)
    assert row["contestant"] in problem


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_is_written_as_it_was_read(path):
    content = json.loads(path.read_text())
    again = SpeedRecord.from_json(content).to_json()
    for ceiling in content["ceilings"]:
        # Which older records lack.
        ceiling["parts"] = ceiling.get("parts", [])
        ceiling["copy_bytes_per_s"] = ceiling.pop("copy_bytes_per_s")
    for row in content["results"]:
        row["samples"] = [{"start": 0} | sample for sample in row["samples"]]
    assert json.dumps(again) == json.dumps(content)


@pytest.mark.parametrize(
    ("place", "value"), [("ratios", 3), ("results", [3]), ("clocks", None), ("skipped", [{}])]
)
def test_what_is_no_record_is_refused_with_its_place(place, value):
    content = json.loads(RECORDS[0].read_text()) | {place: value}
    with pytest.raises(ValueError, match=f"the record/{place}"):
        SpeedRecord.from_json(content)
