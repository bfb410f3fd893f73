"""The form of a benchmark record, place by place: what must be there, and which values it takes."""

import copy

import pytest

from bench.speed import record as record_module
from bench.speed.schema import SCHEMA

ENDS = {
    "workload": "train",
    "variant": "",
    "preset": "tiny",
    "batch_size": 2,
    "length": 8,
    "n_layers": 2,
    "dtype": "float32",
}
TIMES = {
    "median_s": 1.0,
    "quartile_low_s": 1.0,
    "quartile_high_s": 1.0,
    "first_s": 2.0,
    "step_s": 1.0,
    "peak_bytes": 1024,
    "work": {"tokens": 16, "flops": 99},
    "datasheet_flops_per_s": None,
    "compile_s": 1.0,
    "tokens_per_s": 16.0,
    "bytes_per_s": None,
    "mfu": 0.5,
    "mfu_datasheet": None,
    "clean": True,
}
ROW = {
    **ENDS,
    **TIMES,
    "contestant": "torch-tuned",
    "framework": "torch",
    "tier": "tuned",
    "status": "timed",
    "about": {"settings": {}, "process_environment": {}},
    "state": {"settings": {}, "versions": {}, "libraries": []},
    "parity": {"ok": True, "judged": 3, "worst": "w", "error_u": 1.0, "limit_u": 4.0},
    "samples": [{"start": 0, "round": 0, "seconds": 1.0, "others_cores": 0.0}],
    "samples_s": [1.0],
}
RECORD = {
    "schema": "twingrad-bench-1",
    "environment": {
        "device": "cpu",
        "hardware": {"processor": "one", "cores": 2, "memory_bytes": 1024},
        "versions": {"python": "3.11", "numpy": "2.4"},
        "commit": {},
        "load_average": [0.0],
        "threads": 2,
        "environment_variables": {},
        "clocks": {},
    },
    "asked": {},
    "method": {"formula": "", "quiet_cores": 0.1, "starts": 4, "covered": 0.99, "spread": 0.05},
    "seconds": 9.0,
    "interrupted": False,
    "skipped": [],
    "ceilings": [
        {
            "framework": "torch",
            "fast": True,
            "products": [{"name": "head", "shape": [1, 2, 3], "flops_per_s": 1e9}],
            "copy_bytes_per_s": 1e9,
        }
    ],
    "clocks": [],
    "results": [ROW],
    "ratios": [
        {**ENDS, "numerator": "a", "denominator": "b", "ratio": 1.0, "low": 0.9, "high": 1.1}
    ],
    "growth": [
        {
            "contestant": "a",
            "axis": "length",
            "sizes": [1, 2, 4],
            "median_s": [1.0, 2.0, 4.0],
            "exponent": 1.0,
            "r_squared": 1.0,
        }
    ],
}
# Values that each kind of place takes, at its ends, and values that it does not.
TAKES = {
    "object": [],
    "array": [],
    "text": ["", "words"],
    "flag": [True, False],
    "count": [0, 1 << 48],
    "count or none": [0, 1 << 48, None],
    "positive": [1e-15, 1e30, 1],
    "not negative": [0, 1e30],
    "number": [-1e30, 0, 1e30],
    "number or none": [-1e30, 0, 1e30, None],
    "error": [0, 1e300],
    "schema": ["twingrad-bench-1"],
    "framework": ["torch", "jax"],
    "coverage": [0.95, 0.9999],
    "spread": [0.05, 1],
}
REFUSES = {
    "object": [3, "x", None, []],
    "array": [3, "x", None, {}],
    "text": [3, None, [], {}, False],
    "flag": [0, 1, "true", None],
    "count": [-1, 0.5, "1", None, (1 << 48) + 1],
    "count or none": [-1, 0.5, "1", (1 << 48) + 1],
    "positive": [0, 0.9e-15, -1, 1.1e30, "1", None],
    "not negative": [-1e-9, 1.1e30, "1", None],
    "number": [-1.1e30, 1.1e30, "1", None],
    "number or none": [-1.1e30, 1.1e30, "1", []],
    "error": [-1e-9, 1.1e300, "1", None],
    "schema": ["twingrad-bench-0", "", None],
    "framework": ["tensorflow", "", None],
    "coverage": [0.9, 0.99991, "0.99"],
    "spread": [0.04, 1.01, "0.05"],
}
ROW_KINDS = {
    "object": "about state work parity",
    "array": "samples samples_s",
    "text": "workload variant preset dtype contestant tier",
    "framework": "framework",
    "flag": "clean parity/ok",
    "count": "batch_size length n_layers samples/0/start samples/0/round",
    "count or none": "peak_bytes",
    "positive": "median_s quartile_low_s quartile_high_s first_s step_s work/tokens work/flops "
    "samples/0/seconds samples_s/0",
    "not negative": "compile_s samples/0/others_cores",
    "number": "parity/limit_u",
    "error": "parity/error_u",
    "number or none": "tokens_per_s bytes_per_s mfu mfu_datasheet datasheet_flops_per_s",
}
KINDS = {
    "schema": "schema",
    "object": "environment environment/hardware environment/versions environment/commit method "
    "ceilings/0 ceilings/0/products/0 results/0 results/0/samples/0 ratios/0 growth/0",
    "array": "ceilings ceilings/0/products results ratios growth",
    "flag": "interrupted",
    "positive": "seconds ceilings/0/copy_bytes_per_s ceilings/0/products/0/flops_per_s "
    "ratios/0/ratio ratios/0/low ratios/0/high",
    "not negative": "method/quiet_cores",
    "count": "method/starts ratios/0/batch_size ratios/0/length ratios/0/n_layers",
    "coverage": "method/covered",
    "spread": "method/spread",
    "text": "ceilings/0/products/0/name growth/0/contestant growth/0/axis ratios/0/workload "
    "ratios/0/variant ratios/0/preset ratios/0/dtype ratios/0/numerator ratios/0/denominator",
    "number": "growth/0/exponent growth/0/r_squared",
}
PLACES = {place: kind for kind, places in KINDS.items() for place in places.split()}
PLACES |= {
    f"results/0/{place}": kind for kind, places in ROW_KINDS.items() for place in places.split()
}
# What a record may lack.
OPTIONAL = {"method/starts", "results/0/samples/0/start", "results/0/work/flops"}


def _within(content, place):
    """What holds ``place``, and its last key."""
    *way, last = [int(part) if part.isdecimal() else part for part in place.split("/")]
    for key in way:
        content = content[key]
    return content, last


def _wrong(place, value):
    """The places at which a record's form is wrong if it has ``value`` at ``place``."""
    content = copy.deepcopy(RECORD)
    inner, last = _within(content, place)
    inner[last] = value
    return [said.partition(": ")[0] for said in record_module._wrong_form(content)]


def _every_key(content, place=""):
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        path = f"{place}/{key}" if place else str(key)
        if isinstance(content, dict):
            yield path
        if isinstance(value, (dict, list)):
            yield from _every_key(value, path)


def test_the_form_of_the_example_is_right():
    assert list(record_module._wrong_form(RECORD)) == []


@pytest.mark.parametrize("place", PLACES)
def test_a_value_of_another_kind_is_refused_with_its_place(place):
    kind = PLACES[place]
    for value in TAKES[kind]:
        assert place not in _wrong(place, value), value
    for value in REFUSES[kind]:
        assert place in _wrong(place, value), value


def test_what_a_record_must_have_is_missed_where_it_is_taken_out():
    for place in _every_key(RECORD):
        content = copy.deepcopy(RECORD)
        inner, last = _within(content, place)
        del inner[last]
        said = list(record_module._wrong_form(content))
        if place in OPTIONAL:
            assert said == [], place
        elif place != "results/0/work/tokens":  # see below
            where = place.rpartition("/")[0] or "the record"
            assert said[0] == f"{where}: {last!r} is a required property", said


def test_work_is_nothing_or_has_tokens():
    assert _wrong("results/0/work", {}) == []
    assert _wrong("results/0/work", {"tokens": 3}) == []
    assert _wrong("results/0/work", {"bytes": 3}) == ["results/0/work"]


@pytest.mark.parametrize("place", ["results", "ceilings/0/products", "results/0/samples_s"])
def test_an_array_that_must_hold_something_is_refused_empty(place):
    assert _wrong(place, []) == [place]


def test_more_samples_than_an_interval_can_be_drawn_from_are_refused():
    sample = RECORD["results"][0]["samples"][0]
    assert _wrong("results/0/samples", [sample] * 10_000) == []
    assert _wrong("results/0/samples", [sample] * 10_001) == ["results/0/samples"]


def test_a_row_without_a_time_needs_none_of_a_timed_ones():
    content = copy.deepcopy(RECORD)
    row = content["results"][0]
    for name in TIMES:
        del row[name]
    row |= {"status": "failed parity", "parity": {"ok": False}, "state": {}, "samples": []}
    row |= {"samples_s": []}
    assert list(record_module._wrong_form(content)) == []
    for name in ("status", "parity", "state", "samples", "samples_s", "about", *ENDS):
        kept = row.pop(name)
        said = list(record_module._wrong_form(content))
        assert f"results/0: {name!r} is a required property" in said
        row[name] = kept


def test_the_schema_says_which_dialect_it_is_in_and_what_it_describes():
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    assert validator_for(SCHEMA, default=None) is Draft202012Validator
    assert SCHEMA["title"] == "A record of twingrad bench"
