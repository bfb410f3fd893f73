"""Errors of a pair's own code: the sentence with file and line, and the lines of that code."""

import json
import sys
import traceback

import pytest

from twingrad import user_code
from twingrad.cli.main import main
from twingrad.pair import load
from twingrad.user_code import UserCodeError, frames_of, is_users, refused


def _raised(run):
    try:
        run()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def _asked(depth):
    if depth == 0:
        return {}["lost"]
    return _asked(depth - 1)


def test_only_the_last_five_lines_are_shown_the_innermost_last():
    frames = frames_of(_raised(lambda: _asked(9)))
    assert len(frames) == 5
    assert frames[-1].text == 'return {}["lost"]'
    assert {frame.function for frame in frames} == {"_asked"}


def test_lines_of_libraries_are_left_out():
    error = _raised(lambda: json.loads("{"))
    assert [frame.text[:5] for frame in frames_of(error)] == ["run()", "error"]
    assert all(frame.file == __file__ for frame in frames_of(error))


def test_an_error_without_a_line_of_the_users_has_the_sentence_alone():
    made = refused("the pair's jax", KeyError("lost"), "fix it")
    assert str(made) == "the pair's jax raised KeyError: 'lost': fix it"
    assert user_code.lines(made) == [str(made)]
    assert not hasattr(made, "__notes__")


def test_the_lines_are_a_note_of_the_exception():
    made = refused("the pair's jax", _raised(lambda: _asked(0)), "fix it")
    shown = "".join(traceback.format_exception(made))
    assert f"in _asked: {'return {}'}" in shown
    assert isinstance(made, ValueError)


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (__file__, True),
        ("<ipython-input-3-abc>", True),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
        (json.__file__, False),
        (user_code.__file__, False),
        (pytest.__file__, False),
        ("/home/me/env/lib/python3.11/site-packages/mine/net.py", False),
        ("/home/me/twingrad_ports/net.py", True),
    ],
)
def test_whose_a_file_is(file, users):
    assert is_users(file) is users


def test_a_library_in_a_checkout_is_none_of_the_users(monkeypatch, tmp_path):
    module = type(sys)("optax")
    module.__file__ = str(tmp_path / "optax" / "__init__.py")
    monkeypatch.setitem(sys.modules, "optax", module)
    assert not is_users(str(tmp_path / "optax" / "base.py"))
    assert is_users(str(tmp_path / "optax_ports.py"))


HELPER = "def f(:\n  pass\n"


def test_a_syntax_error_is_shown_where_it_is_and_how_it_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.py").write_text("import numpy\nimport unreadable_helper\n")
    (tmp_path / "unreadable_helper.py").write_text(HELPER)
    with pytest.raises(UserCodeError) as raised:
        load(tmp_path / "pair.py")
    assert "SyntaxError: invalid syntax (unreadable_helper.py, line 1): fix" in str(raised.value)
    assert list(map(str, raised.value.frames)) == [
        "pair.py:2 in <module>: import unreadable_helper",
        "unreadable_helper.py:1: def f(:",
    ]


PAIR = """
import numpy as np
import torch
import optax
from twingrad import Pair

def product(x, w):
    return x @ w

def port(params, x):
    return product(x, params["WEIGHT"]) + params["bias"]

def torch_optimizer(parameters):
    return torch.optim.SGD(parameters, lr=RATE)

pair = Pair(
    torch=lambda: torch.nn.Linear(3, 2),
    jax=lambda: (port, {"weight": np.zeros((3, 2)), "bias": np.zeros(2)}),
    batch=[np.ones((4, 3))],
    torch_optimizer=torch_optimizer,
    jax_optimizer=optax.sgd(0.1),
)
"""
WRONG = {
    "jax_loss": (
        {"WEIGHT": "wieght", "RATE": "0.1"},
        "KeyError: 'wieght' (pair.py, line 11)",
        '  pair.py:11 in port: return product(x, params["wieght"]) + params["bias"]',
    ),
    "torch_optimizer": (
        {"WEIGHT": "weight", "RATE": "-1.0"},
        "ValueError: Invalid learning rate: -1.0 (pair.py, line 14)",
        "  pair.py:14 in torch_optimizer: return torch.optim.SGD(parameters, lr=-1.0)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_command_line_prints_the_sentence_and_the_users_lines(
    what, tmp_path, monkeypatch, capsys
):
    for framework in ("torch", "jax", "optax"):
        pytest.importorskip(framework)
    changes, said, line = WRONG[what]
    text = PAIR
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "pair.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", "pair.py"]) == 2
    told = [row for row in capsys.readouterr().err.splitlines() if " s  " not in row]
    assert told == [f"twingrad: the pair's {what} raised {said}: fix it", line]
