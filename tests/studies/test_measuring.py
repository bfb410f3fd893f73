"""Studies can be measured again: each of these is run from its start to its record, but small."""

import json
import subprocess
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from bench.harness import frameworks, records
from bench.planning import tables as planning_tables
from bench.planning import validation
from bench.studies import __main__ as command
from bench.studies import (
    decoding,
    distributed,
    first_look,
    framework_defaults,
    module_times,
    ports,
    scan_or_unroll,
    training_runs,
    tutorial_pictures,
    writing,
)
from bench.studies.study import StudyOptions
from bench.training.config import RunSettings
from shared.config import GPTConfig

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("the studies measure both frameworks", allow_module_level=True)
pytestmark = pytest.mark.slow


def _measured(study, options=None):
    """The record of a study as it is read back, and the lines that a terminal shows."""
    record = study.measure(options or StudyOptions())
    body = json.loads(json.dumps(record.as_object()))
    return records.Record(body.pop("environment"), body), list(study.lines(record))


def test_a_token_is_timed_at_every_position_in_both_ways(monkeypatch):
    config = GPTConfig(vocab_size=61, context_length=16, emb_dim=16, n_heads=2, n_layers=1)
    timing = decoding.Timing(
        name="smallest", config=config, cached=range(0, 16, 15), uncached=(15,), steps=2, rounds=2
    )
    monkeypatch.setattr(decoding, "TIMINGS", (timing,))
    record, lines = _measured(decoding.STUDY)
    (model,) = record["models"]
    assert [(p["framework"], p["way"], p["position"]) for p in model["points"]] == [
        *((name, "cached", position) for position in (0, 15) for name in ("torch", "jax")),
        *((name, "uncached", 15) for name in ("torch", "jax")),
    ]
    assert all(point["median_s"] > 0 for point in model["points"])
    assert lines[1] == "smallest: milliseconds a token"
    assert decoding.markdown(record).count("| smallest |") == 2


class _Here:
    """Stands in for a pool of processes: what is submitted is done at once, in this one."""

    def __init__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self):
        pass


@pytest.mark.usefixtures("unchecked")
def test_every_definition_is_timed_in_both_frameworks(monkeypatch):
    monkeypatch.setattr(module_times, "ProcessPoolExecutor", _Here)
    sizes = {"PRESET": "tiny", "BATCH": 2, "LENGTH": 16, "CHUNK": 16, "SAMPLES": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(module_times, name, value)
    try:
        record, lines = _measured(module_times.STUDY)
    finally:
        module_times._work.cache_clear()
        module_times._ready.cache_clear()
    ways = [
        (room, name, way) for room, name in module_times.DEFINITIONS for way in module_times.WAYS
    ]
    assert [(r["room"], r["definition"], r["way"]) for r in record["rows"]] == ways
    assert all(row[name]["median_s"] > 0 for row in record["rows"] for name in frameworks.NAMES)
    assert len(lines) == len(ways)
    assert record["settings"]["preset"] == "tiny"


def test_a_scan_over_layers_is_timed_beside_layers_that_are_written_out():
    record, lines = _measured(scan_or_unroll.STUDY, StudyOptions(preset="tiny"))
    assert [(row["layers"], row["preset"]) for row in record["rows"]] == [
        ("unrolled", "tiny"),
        ("scan", "tiny"),
    ]
    assert all(row[key] > 0 for row in record["rows"] for key in ("compile_s", "step_s"))
    assert lines[1].lstrip().startswith("scan: trace and lower ")
    assert scan_or_unroll.markdown(record).count("\n") == 3


def test_a_scan_that_computes_another_loss_is_no_time(monkeypatch):
    times = iter([({}, 1.0), ({}, 1.1)])
    monkeypatch.setattr(scan_or_unroll, "_times", lambda *_: next(times))
    with pytest.raises(RuntimeError, match=r"the two ways differ: \[1\.0, 1\.1\]"):
        scan_or_unroll.measure(StudyOptions(preset="tiny"))


def test_first_commands_are_timed_twice_beside_the_imports(monkeypatch):
    monkeypatch.setattr(first_look, "REPEATS", 1)
    monkeypatch.setattr(first_look, "FLOORS", {"importing json": "import json"})
    calls = ((("plan", "--help"), 0), (("mutants", "--only", "gelu-err"), 2))
    monkeypatch.setattr(first_look, "CALLS", calls)
    record, lines = _measured(first_look.STUDY)
    assert [row["call"] for row in record["calls"]] == ["plan --help", "mutants --only gelu-err"]
    assert [len(row[turn]) for row in record["calls"] for turn in ("first", "second")] == [1] * 4
    assert lines[0].endswith("importing json")
    table = first_look.markdown(record)
    assert "| importing json alone |" in table
    assert "| twingrad plan --help |" in table


def test_a_first_command_that_ends_with_another_status_is_no_time():
    with pytest.raises(RuntimeError, match="gelu-err ended with 2: "):
        first_look._timed(("-m", "bench", "mutants", "--only", "gelu-err"), 0, {})


@pytest.mark.parametrize("name", first_look._TURN_OFF)
def test_the_caches_are_on_where_first_commands_are_timed(monkeypatch, name):
    monkeypatch.setenv(name, "false")
    code = f"import os, sys; sys.exit(int({name!r} in os.environ))"
    assert first_look._timed(("-c", code), 0, {}).seconds > 0


@pytest.mark.usefixtures("unchecked")
def test_both_training_runs_are_recorded_with_every_step(monkeypatch):
    short = {"preset": "tiny", "steps": 3, "length": 16, "batch_size": 2, "eval_batches": 1}
    monkeypatch.setattr(
        training_runs,
        "RUNS",
        {"default": RunSettings(**short), "markov": RunSettings(**short, data="markov")},
    )
    record, lines = _measured(training_runs.STUDY)
    for name, run in record["runs"].items():
        assert run["apart"] < 1e-3, name
        for by_metric in run["frameworks"].values():
            assert len(by_metric["loss"]) == len(by_metric["grad_norm"]) == 3
            steps = training_runs.losses(by_metric)
            assert [row.step for row in steps] == [1, 2, 3]
            assert steps[-1].val_loss == by_metric["validation"][-1][1]
    assert [line.partition(":")[0] for line in lines] == ["default", "markov"]
    assert "3 steps of 2 x 16 tokens" in training_runs.markdown(record)
    assert training_runs.markov(record).startswith("Entropy rate ")


def test_texts_of_the_default_run_are_written_and_counted(monkeypatch):
    """The runs take three steps each, so what they write is no English; it is counted as it is."""

    def run(words, **settings):
        return subprocess.run([*words, "--steps=3"], **settings)

    monkeypatch.setattr(writing, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(writing, "PROMPTS", writing.PROMPTS[:2])
    monkeypatch.setattr(writing, "SEEDS", range(1))
    record, lines = _measured(writing.STUDY)
    runs = [(run["preset"], run["framework"]) for run in record["runs"]]
    assert runs == [("writer", "torch"), ("writer", "jax"), ("tiny", "jax")]
    for run in record["runs"]:
        pairs = zip(run["texts"], writing.PROMPTS, strict=True)
        assert all(text.startswith(prompt) for text, prompt in pairs)
        assert run["seconds"] > 0
        assert run["processor_s"] > 0
        assert run["known"] <= run["words"]
    assert record["validation"]["words"] > record["validation"]["known"] > 0
    assert len(lines) >= 2 * len(runs)
    assert "| the text that validates |" in writing.markdown(record)


@pytest.mark.usefixtures("unchecked")
def test_pictures_are_drawn_from_what_the_pages_compute():
    record, lines = _measured(tutorial_pictures.STUDY)
    committed = records.load(tutorial_pictures.RECORD)
    assert record["graphs"].keys() == committed["graphs"].keys()
    for name, sides in record["graphs"].items():
        for side in sides:
            ours, theirs = (
                tutorial_pictures.graph_of(one, name, side) for one in (record, committed)
            )
            assert ours.nodes
            assert ours.edges
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert len(lines) == 2 * len(tutorial_pictures.GRAPHS)


def test_layouts_are_judged_against_one_process_of_each_framework(monkeypatch):
    monkeypatch.setattr(distributed, "WORLDS", {1: (distributed.ALONE,), 2: ("2x1",)})
    record, lines = _measured(distributed.STUDY)
    rows = [(row["framework"], row["layout"], row["reference"]) for row in record["rows"]]
    assert rows == [
        ("torch", "1x1", "jax"),
        ("torch", "2x1", "torch"),
        ("torch", "2x1", "jax"),
        ("jax", "1x1", "torch"),
        ("jax", "2x1", "torch"),
        ("jax", "2x1", "jax"),
    ]
    assert distributed.holds(record)
    assert len(lines) == len(rows)
    assert "| 2x1 | PyTorch |" in distributed.markdown(record)


def test_ports_are_diagnosed_each_in_a_process_of_its_own(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert ports.main(["--only", "cosine-floor", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["ports"]
    assert {row["name"].partition("/")[0] for row in rows} == {"cosine-floor"}
    assert all(row["right"] for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 3
    assert ports.main(["--only", "nonsense"]) == 2
    assert "there is no port nonsense in " in capsys.readouterr().err


def test_a_diagnosis_that_hangs_is_a_wrong_answer(monkeypatch):
    monkeypatch.setattr(ports, "LIMIT_S", 0.01)
    answer = ports.diagnose(ports.read()[0])
    assert (answer["status"], answer["message"]) == (-1, "no answer in 0.01 s")


def test_pairs_drawn_at_random_are_diagnosed_one_by_one(tmp_path, capsys):
    path = tmp_path / "found.json"
    for done in (1, 2):
        assert command.main(["random-pairs", "--most", "1", "--json", str(path)]) == 0
        rows = json.loads(path.read_text())["rows"]
        assert [(row["number"], row["right"]) for row in rows] == [(n, True) for n in range(done)]
    assert capsys.readouterr().out.startswith("0 ")


def test_the_study_of_defaults_writes_a_row_for_each(tmp_path):
    path = tmp_path / "found.json"
    call = [sys.executable, "-m", "bench.studies", "defaults", "--json", str(path)]
    assert subprocess.run(call, cwd=records.ROOT, capture_output=True).returncode == 0
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == len(framework_defaults.DIFFERENCES)


def test_plans_are_compared_with_runs_of_one_process_and_of_two(monkeypatch, tmp_path):
    monkeypatch.setattr(
        validation, "SIZES", (RunSettings(preset="small", length=64, batch_size=2),)
    )
    monkeypatch.setattr(validation, "LAYOUTS", ((2, 1),))
    path = tmp_path / "found.json"
    assert validation.main(["--json", str(path)]) == 0
    found = json.loads(path.read_text())
    (size,), (layout,) = found["sizes"], found["layouts"]
    assert [row["framework"] for row in size["rows"]] == list(frameworks.NAMES)
    for row in (*size["rows"], *layout["rows"]):
        assert len(row["measured"]["steps_s"]) == validation.STEPS - 1
        assert row["measured"]["peak_bytes"] > 0
    assert all(row["link_bytes_per_s"] > 0 for row in layout["rows"])
    assert "small" in planning_tables.markdown(found)
