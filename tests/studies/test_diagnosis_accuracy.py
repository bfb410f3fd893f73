"""Claims about how diagnosis is judged: what is expected of it, and the record of it."""

import json

import pytest

from bench.harness import frameworks, records
from bench.mutation import programs as mutation_programs
from bench.mutation.mutants import MUTANTS
from bench.studies import diagnosis_accuracy, diagnosis_labels
from twingrad.diagnosis.finding import Cause, Form

if not all(frameworks.installed(name) for name in ("torch", "jax")):
    pytest.skip("diagnosis needs both frameworks", allow_module_level=True)

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def test_every_bug_has_words_that_its_cause_must_hold():
    assert list(diagnosis_labels.WORDS) == [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_bug_has_a_place_on_each_side(mutant):
    for side in mutant.edits:
        assert diagnosis_labels.places(mutant, side), side


PLACES = {
    "layer-norm-epsilon-1e-6": ("h.1.ln_1", "h.0"),
    "gelu-erf": ("h.0.mlp", "h.0.mlp.c_fc"),
    "no-mask": ("h.0.attn", "h.0.ln_1"),
    "padding-row": ("wte.weight", "wpe.weight"),
    "loss-summed": ("loss", "model"),
    "decay-everything": ("adamw, wpe.weight, step 2", "wpe.weight"),
    "dropout-unscaled": ("h.0.attn.attn_dropout", "h.0.attn"),
    "mean-of-means": ("loss of step 1", "loss"),
    "resume-without-first-moment": ("val_loss of step 4, after going back", "val_loss of step 4"),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_place_of_a_bug_is_read_from_its_edit(name):
    right, wrong = PLACES[name]
    assert diagnosis_labels.is_located(BY_NAME[name], "torch", right)
    assert not diagnosis_labels.is_located(BY_NAME[name], "torch", wrong)
    assert not diagnosis_labels.is_located(BY_NAME[name], "torch", None)


def test_the_cause_of_the_other_framework_names_no_bug():
    cause = Cause("GELU by erf of h.0.mlp.c_fc", "GELU by tanh of h.0.mlp.c_fc")
    assert diagnosis_labels.is_named(BY_NAME["gelu-erf"], str(cause), cause.torch)
    assert not diagnosis_labels.is_named(BY_NAME["gelu-erf"], str(cause), cause.jax)
    assert not diagnosis_labels.is_named(BY_NAME["gelu-erf"], None, None)


SENTENCES = {
    Cause("a, b", "c"): "PyTorch's is a, b, JAX's c",
    Cause("the rule", "the rule without clipping", Form.RULES): (
        "PyTorch follows the rule, JAX the rule without clipping"
    ),
    Cause("the recipe, but x", "the recipe", Form.RECIPES): (
        "PyTorch follows the recipe, but x; JAX follows the recipe"
    ),
    Cause.statement("the sign is turned"): "the sign is turned",
}


@pytest.mark.parametrize("cause", SENTENCES, ids=str)
def test_a_cause_is_composed_of_what_each_framework_does(cause):
    assert str(cause) == SENTENCES[cause]


def test_pairs_are_the_same_every_time_and_never_edit_one_text_twice():
    pairs = diagnosis_accuracy.pairs()
    assert pairs == diagnosis_accuracy.pairs()
    assert len(pairs) == diagnosis_accuracy.PAIRS
    for (first, one), (second, other) in pairs:
        assert first.program == second.program
        assert (first.file, one) != (second.file, other)


@pytest.mark.slow
def test_a_judgement_goes_on_where_it_stopped(tmp_path, capsys):
    path = tmp_path / "found.json"
    call = ["--only", "same-batch", "loss-after-update", "--json", str(path), "--most"]
    assert diagnosis_accuracy.main([*call, "1"]) == 0
    assert "of 1 bugs 1 located, 1 named" in capsys.readouterr().out.splitlines()[-1]
    first = json.loads(path.read_text())["bugs"]
    assert diagnosis_accuracy.main([*call, "2"]) == 0
    assert "1 are left" in capsys.readouterr().out.splitlines()[-1]
    found = json.loads(path.read_text())
    assert found["bugs"][:1] == first
    assert [(row["name"], row["side"]) for row in found["bugs"]] == [
        ("same-batch", "torch"),
        ("same-batch", "jax"),
        ("loss-after-update", "torch"),
    ]


def test_what_other_sources_made_is_not_gone_on_with(tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"sources": "others", "clean": [], "bugs": [{}], "pairs": []}))
    assert diagnosis_accuracy.begun(path)["bugs"] == []


def test_bad_calls_are_one_sentence(tmp_path, capsys):
    broken = tmp_path / "found.json"
    broken.write_text("{")
    for call, said in (
        (["--only", "nonsense"], "unknown bug 'nonsense'"),
        (["--json", str(broken)], "is no record"),
    ):
        assert diagnosis_accuracy.main(call) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


# The committed record.


@pytest.fixture(scope="module")
def report():
    return records.load("diagnosis-cpu")


def test_the_record_has_every_bug_on_every_side_and_every_pair(report):
    trials = [(mutant.name, side) for mutant in MUTANTS for side in mutant.edits]
    assert sorted((row["name"], row["side"]) for row in report["bugs"]) == sorted(trials)
    assert len(report["pairs"]) == diagnosis_accuracy.PAIRS
    assert {row["program"] for row in report["clean"]} > mutation_programs.PROGRAMS.keys()


def test_at_least_95_in_100_are_located_and_80_named(report):
    bugs, pairs = report["bugs"], report["pairs"]
    assert sum(row["located"] for row in bugs) >= 0.95 * len(bugs)
    assert sum(row["named"] for row in bugs) >= 0.80 * len(bugs)
    assert sum(row["located"] for row in pairs) >= 0.95 * len(pairs)


def test_nothing_is_found_where_nothing_was_planted(report):
    assert all(row["findings"] == [] for row in report["clean"])


def test_the_record_is_judged_by_the_words_that_stand_there_now(report):
    for row in report["bugs"]:
        located, named = diagnosis_accuracy.judged(BY_NAME[row["name"]], row["side"], row)
        assert (row["located"], row["named"]) == (located, named), row
