"""A record of a whole call, and what ``--check`` finds wrong with edited ones."""

import copy
import json
import math

import pytest

from bench.cli.main import main
from bench.harness import frameworks, records
from bench.speed import derivation, stage_run, workloads
from bench.speed import record as record_module
from bench.speed.json_form import decode
from bench.speed.results import Sample
from tests.helpers.running import refused

# The least that makes a record with a ratio in it.
OVERHEAD = ("bench", "--device", "cpu", "--workload", "overhead", "--contestants")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The record of a whole call, its path, and what was printed."""
    if not all(map(frameworks.installed, frameworks.NAMES)):
        pytest.skip("needs both frameworks")
    path = tmp_path_factory.mktemp("bench") / "record.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "SMALL_PROGRAMS", ("simple-net",))
        # As many processes as an interval over processes takes.
        call = [*OVERHEAD, "jax-tuned,torch-idiomatic", "--starts", "3", "--json", str(path)]
        assert main(call) == 0
    return path


@pytest.fixture
def record():
    """Two contestants of one workload, out of a committed record: a record that holds by itself."""
    kept = records.load("speed-small-cpu").as_object()
    pair = ["jax-tuned", "torch-idiomatic"]
    rows = [row for row in kept["results"] if row["preset"] == "simple-net"]
    kept["results"] = [row for name in pair for row in rows if row["contestant"] == name]
    kept["ratios"] = [
        ratio
        for ratio in kept["ratios"]
        if ratio["preset"] == "simple-net" and [ratio["numerator"], ratio["denominator"]] == pair
    ]
    assert list(record_module.problems(kept)) == []
    return kept


@pytest.mark.slow
@pytest.mark.one_setup
def test_a_record_holds(measured, capsys):
    assert main(["bench", "--check", str(measured)]) == 0
    said = capsys.readouterr()
    assert "holds: 2 results, 1 ratios" in said.out
    assert said.out.count("\n") == 1
    assert said.err == ""


@pytest.mark.slow
@pytest.mark.one_setup
def test_a_record_says_what_was_measured(measured):
    record = json.loads(measured.read_text())
    rows = {row["contestant"]: row for row in record["results"]}
    assert list(rows) == ["jax-tuned", "torch-idiomatic"]
    for row in rows.values():
        assert row["status"] == "timed"
        assert row["parity"]["ok"]
        assert row["parity"]["judged"] > 2
        assert {sample["start"] for sample in row["samples"]} == {0, 1, 2}
        assert len(row["samples"]) >= 3 * stage_run.EACH
        assert row["peak_bytes"] > 1 << 20
    assert {"torch", "jax", "flax", "python"} <= record["environment"]["versions"].keys()
    [ratio] = record["ratios"]
    assert (ratio["numerator"], ratio["denominator"]) == tuple(rows)
    assert record["interrupted"] is False
    assert record["skipped"] == []


def _missing(found):
    del found["results"][0]["parity"]


def _median(found):
    found["results"][0]["median_s"] *= 0.999


def _quartile(found):
    found["results"][1]["quartile_high_s"] *= 1.001


def _ratio(found):
    found["ratios"][0]["ratio"] *= 1.001


def _interval(found):
    found["ratios"][0]["low"] *= 1.001


def _renamed(found):
    found["ratios"][0]["denominator"] = "torch-tuned"


def _sample(found):
    for sample in found["results"][0]["samples"]:
        sample["seconds"] *= 0.5


def _both_kinds_of_sample(found):
    row = found["results"][0]
    for sample in row["samples"]:
        sample["seconds"] *= 0.5
    samples = [decode(Sample, sample) for sample in row["samples"]]
    row["samples_s"] = list(derivation.counted(samples, found["method"]["quiet_cores"]))


def _disturbance(found):
    for sample in found["results"][0]["samples"]:
        sample["others_cores"] = 0.0
    found["results"][0]["samples"][0] |= {"seconds": 1.0, "others_cores": 2.0}


def _uncertified(found):
    found["results"][0]["parity"]["ok"] = False


def _over(found):
    found["results"][0]["parity"]["error_u"] = found["results"][0]["parity"]["limit_u"] * 2


def _no_number(found):
    found["results"][0]["parity"]["error_u"] = float("nan")


def _no_error(found):
    found["results"][0]["parity"]["error_u"] = None


def _no_samples(found):
    found["results"][0] |= {"samples": [], "samples_s": []}


def _untimed(found):
    found["results"][0]["status"] = "failed parity"


def _nothing(found):
    found |= {"results": [], "ratios": []}


def _grown(found):
    one = {"contestant": "a", "axis": "length", "sizes": [1, 2, 4], "median_s": [1.0, 2.0, 4.0]}
    found["growth"] = [one | {"exponent": 1.0, "r_squared": 1.0}]


def _other_schema(found):
    found["schema"] = "twingrad-bench-0"


def _narrow(found):
    found["method"]["covered"] = 0.5


def _not_widened(found):
    found["method"]["spread"] = 0.0


def _quiet(found):
    found["method"]["quiet_cores"] = "quiet"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_missing, ["results/0", "parity"]),
        (_median, ["jax-tuned", "median_s"]),
        (_quartile, ["torch-idiomatic", "quartile_high_s"]),
        (_ratio, ["jax-tuned/torch-idiomatic", "ratio is"]),
        (_interval, ["jax-tuned/torch-idiomatic", "low is"]),
        (_renamed, ["torch-tuned", "not timed"]),
        (_sample, ["jax-tuned", "samples"]),
        (_both_kinds_of_sample, ["jax-tuned", "median_s"]),
        (_disturbance, ["jax-tuned", "samples"]),
        (_uncertified, ["jax-tuned", "parity check failed"]),
        (_over, ["jax-tuned", "over its limit"]),
        (_no_number, ["NaN"]),
        (_no_error, ["parity/error_u"]),
        (_no_samples, ["results/0/samples"]),
        (_untimed, ["jax-tuned", "failed parity"]),
        (_nothing, ["results"]),
        (_grown, ["growth"]),
        (_other_schema, ["schema"]),
        (_quiet, ["quiet_cores"]),
        (_narrow, ["method/covered", "0.5"]),
        (_not_widened, ["method/spread", "0.0"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.attack("records")
def test_an_edited_record_is_refused(record, tmp_path, capsys, edit, named):
    edit(record)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(record))
    said = refused(capsys, "bench", "--check", str(path), code=1)
    for word in named:
        assert word in said


@pytest.mark.parametrize("content", ["", "no record", '{"schema":', "\xff", None])
@pytest.mark.attack("records")
def test_what_is_no_record_is_refused(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    said = refused(capsys, "bench", "--check", str(path))
    assert str(path) in said
    assert ("not JSON" if content is not None else "does not exist") in said


@pytest.mark.parametrize("content", ["[" * 100_000, '{"seconds": 1' + "0" * 5000 + "}"])
@pytest.mark.attack("records")
def test_json_that_python_cannot_read_is_no_record(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    assert "not JSON" in refused(capsys, "bench", "--check", str(path))


@pytest.mark.parametrize("content", ["[]", "{}", "3", "null", '{"results": 3}'])
@pytest.mark.attack("records")
def test_json_that_is_no_record_does_not_hold(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    assert "does not hold" in refused(capsys, "bench", "--check", str(path), code=1)


@pytest.mark.slow
@pytest.mark.attack("records")
def test_no_value_in_a_record_can_bring_the_check_down(record, record_property):
    # Every figure the check reads, replaced by what it is not; one sample a row is enough.
    for row in record["results"]:
        row["samples"], row["samples_s"] = row["samples"][:1], row["samples_s"][:1]
    places = list(_places(record, ()))
    assert len(places) > 80
    values = (None, "", "x", -1, 0, 0.5, 1e-300, math.inf, 10**400, [], {})
    record_property("attacks", len(places) * len(values))
    for place in places:
        for value in values:
            edited = copy.deepcopy(record)
            *way, last = place
            part = edited
            for key in way:
                part = part[key]
            part[last] = value
            list(record_module.problems(edited))


def _places(value, way):
    # What is in these is shown, never read.
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in items:
        if key in ("about", "state", "clocks", "environment", "asked"):
            continue
        yield (*way, key)
        if isinstance(inner, (dict, list)):
            yield from _places(inner, (*way, key))
