"""``twingrad phrases``: what it lists, prints, runs, writes and refuses, without a framework."""

import json
import os
import subprocess
import sys

import pytest

from bench.harness import frameworks
from tests.helpers.sources import ROOT
from twingrad.cli.main import main
from twingrad.phrases import book, command

needs_both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="it needs both frameworks"
)


@pytest.fixture
def width(monkeypatch):
    def columns(count):
        monkeypatch.setenv("COLUMNS", str(count))

    return columns


def test_without_a_word_all_titles_are_listed(capsys, width):
    width(80)
    assert main(["phrases"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for family, phrase in book.entries():
        assert f"\n{family.title}\n" in printed
        assert f"\n  {phrase.title}\n" in printed


def test_both_columns_stand_side_by_side_where_there_is_room(capsys, width):
    width(160)
    assert main(["phrases", "take_along_axis", "gather"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["PyTorch", "JAX"] in rows
    assert any("torch.gather(x," in row and "jnp.take_along_axis(x," in row for row in rows)


def test_one_stands_under_the_other_where_there_is_none(capsys, width):
    width(80)
    assert main(["phrases", "take_along_axis", "gather"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.index("# PyTorch\n") < printed.index("torch.gather(x, 1, index)")
    assert printed.index("torch.gather(x, 1, index)") < printed.index("# JAX\n")
    assert "Differs: " in printed
    assert "Costs: " in printed


def test_phrases_that_have_the_word_in_code_alone_are_named_at_the_end(capsys):
    assert main(["phrases", "cumsum"]) == 0
    printed = capsys.readouterr().out
    assert "def cumulative(x):" in printed
    assert printed.splitlines()[-1].startswith("Also in the code of: ")


def test_json_has_the_phrases_that_were_found(tmp_path, capsys):
    path = tmp_path / "phrases.json"
    assert main(["phrases", "gather", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["phrases"]
    (gather,) = (one for one in found if one["name"] == "gather")
    assert "torch.gather" in gather["torch"]
    assert "take_along_axis" in gather["jax"]
    assert gather["inputs"] == {"x": "(4, 3)", "index": "(4, 2) integers under 3"}
    assert gather["gradient"] == ["x"]
    assert main(["phrases", "--json", str(path)]) == 0
    assert len(json.loads(path.read_text())["phrases"]) == len(list(book.entries()))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["gahter"], "no phrase has 'gahter': did you mean gather?"),
        (["scan", "safetensors"], "no phrase has all words of 'scan safetensors'"),
        (["gather", "--jsn", "x"], "unknown option --jsn: did you mean --json?"),
        (["gather", "--json", "/no/such/folder/x"], "/no/such/folder does not exist; create it"),
    ],
)
def test_a_wrong_call_is_refused_in_one_sentence(call, said, capsys):
    assert main(["phrases", *call]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


NO_FRAMEWORK = """
import sys
for name in ("torch", "jax", "jaxlib", "flax", "optax"):
    sys.modules[name] = None
from twingrad.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def _without_frameworks(*call):
    command_line = [sys.executable, "-c", NO_FRAMEWORK, "phrases", *call]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        command_line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_it_prints_where_neither_framework_is_installed():
    done = _without_frameworks("torch.gather")
    assert done.returncode == 0, done.stderr
    assert "jnp.take_along_axis" in done.stdout


@needs_both
def test_run_says_how_far_apart_the_halves_are(capsys):
    assert main(["phrases", "take_along_axis", "gather", "--run"]) == 0
    assert "\nequal: Gather along an axis: " in capsys.readouterr().out


@needs_both
def test_run_ends_with_status_1_where_the_halves_differ(capsys, monkeypatch):
    monkeypatch.setattr("twingrad.phrases.trial.apart", lambda left, right: 1.0)
    assert main(["phrases", "take_along_axis", "gather", "--run"]) == 1
    assert "\ndiffers: Gather along an axis: the value 1 apart" in capsys.readouterr().out


def test_run_is_refused_where_a_framework_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("twingrad.environment.installed", lambda name: name != "jax")
    assert main(["phrases", "gather", "--run"]) == 2
    assert "jax is not installed: pip install" in capsys.readouterr().err


def test_links_of_a_page_are_their_words_in_a_terminal():
    assert command.plain("see [the defaults](defaults.md) of `x[0](y)`") == (
        "see the defaults of `x[0](y)`"
    )
