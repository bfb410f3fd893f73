"""The command line for pairs: which calls it answers, and whose packages a pair file imports."""

import sys
from pathlib import Path

import pytest

import shared.params
from twingrad.cli import library_commands
from twingrad.cli.imports import without_checkout
from twingrad.cli.main import main
from twingrad.environment import checkout
from twingrad.pair import importing_beside, load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "call",
    [
        "init-pair x",
        "init-pair",
        "compare x.py",
        "compare --json out x.py",
        "compare --json=out x.py",
        "compare --dtype float64 -- x.py",
        "diagnose --all x.py",
        "diagnose x.py --help",
        "bench x.py",
        "bench --json out x.py",
    ],
)
def test_a_call_about_a_file_is_the_librarys(call):
    assert library_commands.answers(call.split())


@pytest.mark.parametrize(
    "call",
    ["", "--help", "compare", "compare gpt2", "compare --json x.py", "compare gpt2 --json x.py",
     "diagnose --help", "train x.py", "bench", "bench --check x.py",
     "bench --workload train forward"],
)  # fmt: skip
def test_any_other_call_is_not(call):
    assert not library_commands.answers(call.split())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("compare x.py --preset tiny", "--preset is for gpt2"),
        ("diagnose x.py --preset=tiny", "--preset is for gpt2"),
        ("compare x.py --save y", "--save is for gpt2"),
        ("compare x.py --dtype bfloat16", "float64 and float32"),
        ("compare x.py --device tpu", "a pair runs on cpu or cuda"),
        ("compare x.py --json nowhere/at/all", "does not exist"),
        ("compare x.py --jsn y", "see twingrad"),
        ("compare x.py", "there is no pair file x.py"),
        ("bench x.py --samples 2", "need 3 or more"),
        ("bench x.py --modes quick", "unknown mode 'quick'"),
        ("bench x.py --preset tiny", "--preset is for gpt2"),
        ("bench x.py --json nowhere/at/all", "does not exist"),
        ("init-pair", "FILE"),
    ],
)
def test_a_wrong_call_about_a_file_is_one_sentence(capsys, monkeypatch, tmp_path, call, words):
    monkeypatch.chdir(tmp_path)
    assert main(call.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


@pytest.mark.parametrize("package", [True, False], ids=["package", "plain-folder"])
def test_a_pair_imports_its_own_packages_though_ours_are_loaded(tmp_path, package):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine.py").write_text("X = 3\n")
    if package:
        (tmp_path / "shared" / "__init__.py").touch()
    before = sys.path[:], set(sys.modules)
    with without_checkout(), importing_beside(tmp_path / "pair.py"):
        assert str(ROOT) not in sys.path
        import shared.mine as mine  # type: ignore[import-not-found]

        assert mine.X == 3
        with pytest.raises(ImportError):
            import bench.cli  # noqa: F401
        import twingrad.numerics  # noqa: F401
    assert (sys.path, set(sys.modules)) == before
    assert sys.modules["shared.params"] is shared.params


def test_a_pair_may_add_to_the_path(tmp_path):
    before = sys.path[:]
    with importing_beside(tmp_path / "pair.py"):
        assert sys.path[0] == str(tmp_path)
        sys.path.insert(0, "more")
    assert sys.path == ["more", *before]
    sys.path.remove("more")


def test_a_pair_file_may_have_string_annotations(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("""
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from twingrad import Pair

@dataclass
class Sizes:
    width: int = 3

pair = Pair(
    torch=Sizes, jax=Sizes, torch_loss=print, jax_loss=print, batch=[np.ones(Sizes().width)]
)
""")
    assert load(path).batch[0].shape == (3,)


def test_this_is_a_checkout():
    assert checkout() == ROOT


MAPPED = """
import numpy as np
import torch
from twingrad import Pair

pair = Pair(
    torch=lambda: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)),
    jax=lambda: (
        lambda p, x: (x @ p["a"] + p["b"]) @ p["c"] + p["d"],
        {"a": np.zeros((3, 2)), "b": np.zeros(2), "c": np.zeros((2, 2)), "d": np.zeros(2)},
    ),
    batch=[np.ones((4, 3))],
    names={"0.weight": "a", "1.weight": "c", "0.bias": "b"NAMES},
)
"""
MAPS = {', "1.bias": "d"': (0, '"1.weight": To("c").axes(1, 0),'), "": (1, '"1.bias": "",  # (2,)')}


@pytest.mark.parametrize("names", MAPS)
def test_the_map_of_a_pair_is_printed_with_what_is_left_open(names, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    status, line = MAPS[names]
    (tmp_path / "p.py").write_text(MAPPED.replace("NAMES", names), encoding="utf-8")
    assert main(["diagnose", str(tmp_path / "p.py"), "--map"]) == status
    assert line in capsys.readouterr().out
