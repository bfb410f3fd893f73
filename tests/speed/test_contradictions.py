"""Benchmark records that cannot be true are refused, though each figure is a possible one."""

import copy
import json
from types import SimpleNamespace

import pytest

from bench.harness import records
from bench.speed import contradictions
from bench.speed import record as record_module
from bench.speed.results import Parity

COMMITTED = sorted(path.stem for path in records.RESULTS.glob("speed-*.json"))


@pytest.fixture(scope="module")
def committed():
    """Two rows of one workload and their ratio, out of a committed record: it holds by itself."""
    found = records.load("speed-small-cpu").as_object()
    found["results"] = found["results"][:2]
    names = [row["contestant"] for row in found["results"]]
    found["ratios"] = [
        one
        for one in found["ratios"]
        if [one["numerator"], one["denominator"]] == names
        and one["workload"] == found["results"][0]["workload"]
    ]
    assert list(record_module.problems(found)) == []
    return found


@pytest.mark.slow("speed-[!d]*")
@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_records_hold(name):
    assert list(record_module.problems(records.load(name).as_object())) == []


def _samples_twice(found):
    found["results"][0]["samples"] *= 2
    found["results"][0]["samples_s"] *= 2


def _a_round_twice(found):
    first, second, *_ = found["results"][0]["samples"]
    second |= {name: first.get(name, 0) for name in ("start", "round")}


def _a_row_twice(found):
    found["results"].append(copy.deepcopy(found["results"][0]))


def _without_ratios(found):
    found["ratios"] = []


def _without_a_rows_ratios(found):
    name = found["results"][0]["contestant"]
    found["ratios"] = [
        one for one in found["ratios"] if name not in (one["numerator"], one["denominator"])
    ]


def _a_ratio_twice(found):
    found["ratios"].append(dict(found["ratios"][0]))


def _ten_times_the_tokens(found):
    row = found["results"][0]
    row["work"]["tokens"] *= 10
    row["tokens_per_s"] *= 10


def _other_arithmetic(found):
    row = found["results"][0]
    row["work"]["flops"] *= 10
    row["mfu"] *= 10


def _a_peak_of_a_byte(found):
    found["results"][0]["peak_bytes"] = 1


def _slow_warm_up(found):
    row = found["results"][0]
    row["step_s"] *= 100
    row["first_s"] += row["step_s"]
    row["compile_s"] = row["first_s"] - row["step_s"]


def _nothing_compiled(found):
    found["results"][0] |= {"first_s": found["results"][0]["step_s"], "compile_s": 0.0}


def _frameworks_swapped(found):
    for row in found["results"]:
        row["framework"] = {"torch": "jax", "jax": "torch"}[row["framework"]]


def _a_wide_limit(found):
    found["results"][0]["parity"] |= {"limit_u": 1e29, "error_u": 1e28}


def _nothing_judged(found):
    found["results"][0]["parity"]["judged"] = 0


def _other_versions(found):
    found["results"][0]["state"]["versions"]["numpy"] = "1.0"
    found["environment"]["versions"]["numpy"] = "2.0"


def _no_time_at_all(found):
    found["seconds"] = 1e-14


def _a_datasheet_of_a_cpu(found):
    row = found["results"][0]
    row["datasheet_flops_per_s"] = 1e15
    row["mfu_datasheet"] = row["work"]["flops"] / row["median_s"] / 1e15


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_samples_twice, "samples are of round"),
        (_a_round_twice, "2 samples are of round"),
        (_a_row_twice, "its samples are those of"),
        (_without_ratios, "compared with none of the others"),
        (_without_a_rows_ratios, "compared with none of the others"),
        (_a_ratio_twice, "is there 2 times"),
        (_ten_times_the_tokens, "its work has tokens"),
        (_other_arithmetic, "its work has flops"),
        (_a_peak_of_a_byte, "a peak of 1 bytes"),
        (_slow_warm_up, "no sample is like that"),
        (_nothing_compiled, "first_s is step_s"),
        (_frameworks_swapped, "its framework is given as"),
        (_a_wide_limit, "the bounds allow 128 u at most"),
        (_nothing_judged, "judged nothing"),
        (_other_versions, "numpy 1.0, and 2.0 in the environment"),
        (_no_time_at_all, "its samples alone"),
        (_a_datasheet_of_a_cpu, "no datasheet has"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.attack("records")
def test_a_record_that_contradicts_itself_is_refused(committed, edit, named):
    found = copy.deepcopy(committed)
    edit(found)
    assert any(named in problem for problem in record_module.problems(found))


@pytest.mark.parametrize(
    ("workload", "dtype", "limit", "most"),
    [
        ("decode", "float32", 0.0, None),
        ("decode", "float32", 4.8, "0 u at most"),
        ("decode", "bfloat16", 4.8, None),
        ("decode", "bfloat16", 33.0, "32 u at most"),
        ("train", "float32", 4.8, None),
    ],
)
def test_only_decoding_in_float32_is_judged_without_any_error(workload, dtype, limit, most):
    parity = Parity(ok=True, judged=1, worst="logits", error_u=0.0, limit_u=limit)
    row = SimpleNamespace(title="a row", workload=workload, dtype=dtype, parity=parity)
    said = [] if most is None else [f"a row: its parity limit is {limit:g} u, and the bounds allow"]
    found = list(contradictions._of_parity(row))
    assert [text.removesuffix(f" {most}") for text in found] == said


@pytest.mark.attack("records")
def test_a_key_that_is_there_twice_is_refused(committed, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(committed).replace('"seconds"', '"seconds": 1.0, "seconds"', 1))
    with pytest.raises(record_module.Refused, match=r"an object has 'seconds' twice"):
        record_module.check(path)


@pytest.mark.attack("processes")
def test_a_file_larger_than_any_record_is_not_read(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b"[" + b"[]," * (record_module.MOST_BYTES // 3) + b"[]]")
    with pytest.raises(ValueError, match=r"over the .* that are read"):
        record_module.check(path)
