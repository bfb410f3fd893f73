"""Claims about the tests of the tests: bugs are planted, seen, and gone afterwards."""

import ast
import io
import itertools
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from bench.harness.frameworks import NAMES, Framework, Frameworks
from bench.mutation import compile_cache, mutants, programs, results, runner
from bench.mutation.mutants import Edit, Mutant, StaleEdit
from bench.mutation.results import Report, Result
from shared.config import LAYER_NORM_EPSILON
from twingrad.numerics import Gaps, Size, judge_float64
from twingrad.outcome import Gate, Outcome

ROOT = Path(__file__).parents[2]
BY_NAME = {mutant.name: mutant for mutant in mutants.MUTANTS}
EPSILON = BY_NAME["layer-norm-epsilon-1e-6"]
# What each gate is there for, as pairs of bug and gate.
REPRESENTATIVES = {
    "gelu-erf": ("float64", "float64"),
    "attention-unscaled-in-float32": ("float32", "float32"),
    "no-clipping": ("optimizer", "float64"),
    "moments-in-bfloat16": ("optimizer", "float32"),
    "attention-without-dropout-in-float32": ("trajectory", "float32"),
    "same-batch": ("trajectory", "float64"),
}
# What each figure of the trajectory is there for, as pairs of bug and the first figure that is off.
FIGURES = {
    "last-loss-reported": "loss[0]",
    "clipped-norm-reported": "grad_norm[1]",
    "dropout-on-in-evaluation": "val_loss[0]",
    "resume-without-second-moment": "val_loss[3]",
}


# One bug of each family, the cheapest that shows what the family is about.
FAMILIES = {
    "block": "gelu-erf",
    "attention": "attention-unscaled",
    "parameters": "projection-transposed",
    "embedding_and_head": "positions-from-one",
    "loss": "loss-summed",
    "precision": "attention-in-tf32",
    "optimizer": "adam-epsilon-in-root",
    "training_loop": "optimizer-state-lost",
    "micro_batches": "micro-batch-gradients-averaged",
    "dropout": "dropout-unscaled",
    "checkpoint": "resume-without-first-moment",
}


def _both(name: str, old: str, new: str) -> Mutant:
    edits = dict.fromkeys(NAMES, (Edit(old, new),))
    return Mutant(name=name, about="made for a test", file="gpt2.py", edits=edits)


def _on_one_side(mutant: Mutant, side: str) -> Mutant:
    return replace(mutant, edits={side: mutant.edits[side]})


HARMLESS = _both("harmless", "def loss_fn(", "# A comment.\ndef loss_fn(")
RAISING = _both("raising", "def loss_fn(", 'raise RuntimeError("planted")\n\n\ndef loss_fn(')


def _modules(side: str) -> dict[str, ModuleType]:
    package = f"{side}_impl"
    return {
        name: module
        for name, module in sys.modules.items()
        if name == package or name.startswith(f"{package}.")
    }


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_edits_fit_todays_sources(mutant: Mutant) -> None:
    for side in mutant.edits:
        original = (ROOT / f"{side}_impl" / mutant.file).read_text(encoding="utf-8")
        edited = ast.parse(mutants.edited(mutant, side))
        assert ast.dump(edited) != ast.dump(ast.parse(original)), side


def test_there_are_many_bugs_on_either_side_and_no_name_twice() -> None:
    assert len(BY_NAME) == len(mutants.MUTANTS) >= 30
    for side in NAMES:
        assert sum(side in mutant.edits for mutant in mutants.MUTANTS) >= 25


def test_an_edit_that_no_longer_fits_names_its_mutant() -> None:
    for side in NAMES:
        with pytest.raises(StaleEdit, match=f"mutant gone, {side}_impl/gpt2.py: 'no such line'"):
            mutants.edited(_both("gone", "no such line", ""), side)


def test_an_edit_fits_only_where_it_occurs_as_often_as_it_says() -> None:
    assert Edit("a", "b").made_in("a c") == "b c"
    assert Edit("a", "bc", times=2).made_in("a a") == "bc bc"
    for text in ("", "a a"):
        with pytest.raises(StaleEdit, match="expected 1"):
            Edit("a", "b").made_in(text)


def test_an_edit_is_indented_as_its_place_is() -> None:
    text = "if x:\n    y = f(x)\n    z = y\n"
    edit = Edit("f(x)\nz = y", "g(x)\nz = 2 * y")
    assert edit.made_in(text) == "if x:\n    y = g(x)\n    z = 2 * y\n"
    with pytest.raises(StaleEdit, match="occurs 0 times"):
        edit.made_in("y = f(x)\n    z = y\n")


def test_bugs_are_read_as_they_are_written() -> None:
    text = """
# A heading

one (gpt2.py of simple-net): both at once
both
- a
- b
+ c
- d

two (optim.py): each by itself
torch
- a
+ b
+
+ c
jax
- d
+ e
- f
+ g
"""
    one, two = mutants.parse(text)
    assert (one.name, one.file, one.about) == ("one", "gpt2.py", "both at once")
    assert (one.program, two.program) == ("simple-net", "gpt2")
    assert one.edits == dict.fromkeys(NAMES, (Edit("a\nb", "c"), Edit("d", "")))
    assert two.edits == {"torch": (Edit("a", "b\n\nc"),), "jax": (Edit("d", "e"), Edit("f", "g"))}


def test_the_planted_side_holds_the_edit_and_the_other_does_not(frameworks: Frameworks) -> None:
    for framework, other in (frameworks, frameworks[::-1]):
        with mutants.planted(EPSILON, framework.name) as edited:
            assert edited.gpt2.LAYER_NORM_EPSILON == framework.gpt2.LAYER_NORM_EPSILON == 1e-6
            assert other.gpt2.LAYER_NORM_EPSILON == LAYER_NORM_EPSILON
            assert framework.train.Optimizer is framework.optim.Optimizer, (
                "one copy of the modules, not two"
            )
        assert framework.gpt2.LAYER_NORM_EPSILON == LAYER_NORM_EPSILON


def test_planting_leaves_every_module_as_it_was(framework: Framework) -> None:
    rooms = (
        framework.gpt2,
        framework.optim,
        framework.params,
        framework.runtime,
        framework.trace,
        framework.train,
    )
    modules, finders, frameworks = (
        _modules(framework.name),
        list(sys.meta_path),
        sys.modules[framework.name],
    )
    contents = [dict(vars(room)) for room in rooms]
    with mutants.planted(EPSILON, framework.name) as planted:
        assert planted.gpt2 is not rooms[0]
        assert planted.train is not rooms[-1]
        assert sys.modules[framework.name] is frameworks
    assert _modules(framework.name) == modules
    assert sys.meta_path == finders
    assert [dict(vars(room)) for room in rooms] == contents
    assert framework.gpt2 is rooms[0]


def test_planting_leaves_every_module_as_it_was_after_an_error(framework: Framework) -> None:
    original = framework.gpt2
    modules, finders = _modules(framework.name), list(sys.meta_path)
    with (
        pytest.raises(RuntimeError, match="planted"),
        mutants.planted(RAISING, framework.name) as planted,
    ):
        _ = planted.gpt2
    assert _modules(framework.name) == modules
    assert sys.meta_path == finders
    assert framework.gpt2 is original


def test_an_unknown_name_is_refused_with_the_choices(frameworks: Frameworks) -> None:
    with pytest.raises(ValueError, match=r"unknown mutant 'nonsense': choose from .*gelu-erf, "):
        runner.run(frameworks, names=["gelu-erf", "nonsense"])


def _outcome(gap: float) -> Outcome:
    size = Size(gap, gap)
    verdict = judge_float64("logits", "activation", Gaps(size, size, size), Size(1.0, 1.0))
    gate = Gate(name="float64", tensors=[verdict])
    return Outcome(program="gpt2", preset="small", dtype="float64", device="cpu", gates=[gate])


CAUGHT = Result(
    name="a",
    framework="torch",
    about="one bug",
    program="gpt2",
    caught=True,
    gate="optimizer",
    dtype="float32",
    error_ratio=123456.789,
    first="adamw[0] wte.weight",
)
MISSED = Result(name="a", framework="jax", about="one bug", program="gpt2", caught=False)


def test_a_report_is_ok_only_if_all_is_caught_and_clean_is_clean() -> None:
    assert Report(clean=[_outcome(0.0)], results=[CAUGHT]).ok
    assert not Report(clean=[_outcome(0.0)], results=[CAUGHT, MISSED]).ok
    assert not Report(clean=[_outcome(1.0)], results=[CAUGHT]).ok
    assert not Report(clean=[], results=[CAUGHT]).ok
    assert not Report(clean=[_outcome(0.0)]).ok, "nothing planted proves nothing"


def test_the_report_as_an_object_keeps_the_contract() -> None:
    found = results.report_object(Report(clean=[_outcome(0.0)], results=[CAUGHT, MISSED]))
    assert (found["ok"], found["clean_ok"]) == (False, True)
    caught, missed = found["mutants"]
    assert {
        "name",
        "side",
        "caught",
        "gate",
        "factor",
        "first",
        "about",
        "program",
    } <= caught.keys()
    assert (caught["gate"], caught["factor"]) == ("optimizer", 123457.0)
    assert (missed["caught"], missed["gate"], missed["factor"]) == (False, None, None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_table_says_what_caught_each_bug_and_ends_with_the_sum() -> None:
    text = io.StringIO()
    console = Console(file=text, width=120)
    results.render(console, Report(clean=[_outcome(0.0)], results=[CAUGHT, MISSED]))
    *_, row, _, note, _, last = text.getvalue().splitlines()
    assert note.startswith("The gate that caught it")
    assert [part.strip() for part in row.split("  ") if part.strip()] == [
        "a",
        "one bug",
        "optimizer, float32 ×123,457",
        "not caught",
    ]
    assert last == "1 of 2 planted bugs caught; nothing trips where there is none."
    failed = Report(clean=[_outcome(1.0)], results=[CAUGHT])
    results.render(console, failed)
    *_, named, last = text.getvalue().splitlines()
    assert named == "gpt2 without a bug fails gate float64 in float64 at logits."
    assert last == "1 of 1 planted bugs caught; a gate trips where there is none."


def test_in_turn_every_bug_is_planted_once_and_on_either_side_about_as_often() -> None:
    found = runner.in_turn(mutants.MUTANTS)
    assert [mutant.name for mutant in found] == [mutant.name for mutant in mutants.MUTANTS]
    used = [side for mutant in found for side in mutant.edits]
    assert len(used) == len(found)
    assert all(used.count(side) > len(used) / 3 for side in NAMES)


def test_every_bug_is_judged_on_a_program_that_there_is() -> None:
    used = {mutant.program for mutant in mutants.MUTANTS}
    assert used == programs.PROGRAMS.keys()
    for name in used:
        assert programs.PROGRAMS[name]().name == name


@pytest.mark.slow
def test_a_bug_is_judged_alike_whatever_else_is_judged_and_where(frameworks: Frameworks) -> None:
    names = ["no-update", "gradients-not-cleared"]
    alone, shared = (runner.run(frameworks, names=names, jobs=jobs) for jobs in (1, 2))
    assert alone.ok
    assert shared.results == alone.results
    assert [(r.name, r.framework) for r in alone.results] == [
        ("gradients-not-cleared", "torch"),
        ("no-update", "torch"),
        ("no-update", "jax"),
    ]
    assert {result.program for result in alone.results} == {"simple-net"}
    assert {outcome.program for outcome in alone.clean} == {"simple-net"}, "no other is needed"


def test_the_bugs_that_stand_for_a_family_are_of_it() -> None:
    assert tuple(FAMILIES) == mutants.FAMILIES
    for family, name in FAMILIES.items():
        text = (Path(mutants.__file__).parent / "bugs" / f"{family}.bugs").read_text("utf-8")
        assert name in [mutant.name for mutant in mutants.parse(text)]
        assert BY_NAME[name].edits.keys() == set(NAMES)


def test_a_bug_of_every_family_is_caught_on_both_sides(
    frameworks: Frameworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``twingrad mutants`` plants all of them. Compiled programs are kept as in all tests.

    One layer shows what two do, and is compiled in half the time.
    """
    monkeypatch.setattr(compile_cache, "compiled_once", nullcontext)
    monkeypatch.setitem(programs.PROGRAMS, "gpt2", lambda: programs.small_gpt2(layers=1))
    chosen = [BY_NAME[name] for name in FAMILIES.values()]
    report = runner.run(frameworks, mutants=chosen, jobs=1)
    assert report.clean_ok
    caught = {(result.name, result.framework): result.caught for result in report.results}
    assert caught == dict.fromkeys(itertools.product(FAMILIES.values(), NAMES), True)
    assert all(result.gate != runner.CRASH for result in report.results)


def test_a_bug_that_makes_its_program_raise_is_not_caught(frameworks: Frameworks) -> None:
    small = replace(RAISING, file="simple_net.py", program="simple-net")
    report = runner.run(frameworks, mutants=[_on_one_side(small, "torch")], jobs=1)
    assert [(result.caught, result.gate) for result in report.results] == [(False, runner.CRASH)]
    assert not report.ok
    text = io.StringIO()
    results.render(Console(file=text, width=120), report)
    assert "not caught: crash" in text.getvalue()


@pytest.mark.slow
def test_every_gate_catches_its_bug_and_lets_a_comment_pass(frameworks: Frameworks) -> None:
    chosen = (*(BY_NAME[name] for name in REPRESENTATIVES), HARMLESS, RAISING)
    quick = [_on_one_side(BY_NAME[name], "torch") for name in FIGURES]
    report = runner.run(frameworks, mutants=[*chosen, *quick])
    assert report.clean_ok
    assert [(outcome.program, outcome.dtype) for outcome in report.clean] == [
        (program, dtype) for program in ("gpt2", "simple-net") for dtype in runner.DTYPES
    ]
    found = {(result.name, result.framework): result for result in report.results}
    assert len(found) == 2 * len(chosen) + len(quick)
    for framework in NAMES:
        assert not found["harmless", framework].caught
        raising = found["raising", framework]
        assert (raising.caught, raising.gate, raising.error_ratio) == (False, runner.CRASH, None)
        for name, gate in REPRESENTATIVES.items():
            result = found[name, framework]
            assert result.caught, (name, framework)
            assert (result.gate, result.dtype) == gate, (name, framework)
            assert result.error_ratio is not None
            assert result.error_ratio > 10, (name, framework)
    assert found["gelu-erf", "torch"].first == "h.0.mlp.c_proj"
    assert {name: found[name, "torch"].first for name in FIGURES} == FIGURES
    assert not report.ok, "a bug that nothing catches is a failure"
