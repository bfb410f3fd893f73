"""``python -m bench.gpu``: a measurement that is cut off loses nothing and is gone on with."""

import json

import pytest

from bench.gpu.__main__ import main
from bench.gpu.options import GpuOptions
from bench.gpu.steps import TUNED, steps
from bench.speed import record
from bench.speed.contestants import ladder
from bench.speed.options import DEFAULT_DTYPES
from twingrad.environment import COMMIT


def test_the_most_important_steps_come_first():
    names = [step.name for step in steps(GpuOptions(), "cuda")]
    assert names[:4] == ["train", "compare-tiny", "compare-bfloat16", "compare-float32"]
    order = [names.index(name) for name in ("peers", "ladder-torch", "decode", "compare-float64")]
    assert order == sorted(order)
    assert names[-2:] == ["passes", "larger"]


def test_the_first_step_is_the_tuned_training_step_of_124m_in_bfloat16():
    first, *others = steps(GpuOptions(), "cuda")
    assert (first.contestants, first.workloads) == (TUNED, ("train",))
    assert (first.preset, first.dtype, first.ceilings) == ("124m", "bfloat16", False)
    assert {step.dtype for step in steps(GpuOptions(), "cpu") if step.contestants} == {
        DEFAULT_DTYPES["cpu"]
    }
    assert sum(step.ceilings for step in others) == 1


def test_a_checkout_takes_part_beside_the_peers(tmp_path):
    given = GpuOptions(peer=(f"nanogpt={tmp_path}",))
    [peers] = [step for step in steps(given, "cuda") if step.name == "peers"]
    assert peers.contestants[-2:] == ("nanogpt", "nanogpt-tuned")


def test_a_call_that_is_cut_off_is_gone_on_with_where_it_was(made, check):
    made.cut_after = 1
    assert made.call("train", "peers") == 130
    assert "what was measured until then is kept" in made.said
    assert made.files() == ["train-1.json"]
    check(made.out)
    content = json.loads((made.out / "train-1.json").read_text())
    assert content["interrupted"] is True
    assert [row["status"] for row in content["results"]] == ["timed", "not reached"]
    made.cut_after, made.measured = -1, []
    assert made.call("train", "peers") == 0
    # The first again, for the ratio to it, and the one that was missing.
    assert made.measured[:2] == list(TUNED)
    assert made.files() == ["peers-1.json", "train-1.json", "train-2.json"]
    check(made.out)


@pytest.mark.slow
def test_what_is_complete_is_not_measured_again(made):
    assert made.call() == 0
    before, made.measured = made.files(), []
    assert made.call() == 0
    assert (made.files(), made.measured) == (before, [])
    assert "goes on from here" not in made.said


def test_of_a_ladder_the_missing_rungs_alone_are_measured(made):
    rungs = [one.name for one in ladder("jax", "cpu")]
    made.cut_after = len(rungs) - 2
    assert made.call("ladder-jax") == 130
    made.cut_after, made.measured = -1, []
    assert made.call("ladder-jax") == 0
    assert made.measured == [rungs[0], *rungs[-2:]]


def test_ceilings_that_are_missing_are_measured(made):
    assert made.call("passes") == 0
    content = json.loads((made.out / "passes-1.json").read_text())
    assert len(content["ceilings"]) >= 2
    # MFU is of the ceilings, though these were measured last.
    assert all(row["mfu"] for row in content["results"])
    (made.out / "passes-1.json").write_text(json.dumps(content | {"ceilings": []}))
    with pytest.raises(ValueError, match=r"mfu .*give another --out"):
        made.call("passes")


def test_a_step_without_time_left_is_named_at_the_end(made):
    assert made.call(budget="1s") == 1
    assert made.files() == []
    assert "jax-tuned; torch-tuned" in made.said
    assert "The same command goes on from here" in made.said


def test_records_of_another_commit_are_not_mixed_with_these(made):
    assert made.call("train") == 0
    path = made.out / "train-1.json"
    content = json.loads(path.read_text())
    content["environment"]["commit"] = {"id": "0" * 40, "dirty": False}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"with commit 0{40}, and this is .*another --out"):
        made.call("train")


@pytest.mark.parametrize("name", ["train-1.json", "compare-tiny-1.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"programs": 3}', "\x00"])
def test_a_file_that_is_no_record_is_refused_in_a_sentence(made, name, text):
    made.out.mkdir()
    (made.out / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        made.call("train", "compare-tiny")
    assert made.files() == [name]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["sleep"], ["'sleep'", "train", "ladder-jax"]),
        (["--budget", "soon"], ["'soon'", "9m"]),
        (["--samples", "0"], ["--samples", "1 or more"]),
        (["--preset", "125m"], ["'125m'", "124m"]),
        (["--peer", "nanogpt=/nowhere/at/all"], ["/nowhere/at/all", "does not exist"]),
        (["--peer", "nanogpt"], ["NAME=PATH"]),
        (["--out", "{file}"], ["is no folder"]),
    ],
)
def test_a_wrong_call_is_refused_and_nothing_is_made(capsys, tmp_path, call, named):
    file = tmp_path / "file"
    file.write_text("")
    given = [word.format(file=file) for word in call]
    out = [] if "--out" in call else ["--out", str(tmp_path / "records")]
    assert main(["--device", "cpu", *given, *out]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    for word in named:
        assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_commit_is_named_where_there_is_no_repository(made, monkeypatch, tmp_path):
    from twingrad import environment

    monkeypatch.setattr(environment, "checkout", lambda: tmp_path)
    monkeypatch.setenv(COMMIT, "abcdef1234")
    assert made.call("train") == 0
    found = record.SpeedRecord.from_json(json.loads((made.out / "train-1.json").read_text()))
    assert found.environment["commit"] == {"id": "abcdef1234"}
    monkeypatch.setenv(COMMIT, "main")
    with pytest.raises(ValueError, match=f"{COMMIT} is 'main'"):
        made.call("train")
