"""The names that a statement assigns, found by the lines of a stack."""

import pytest

from shared.statements import assigned

SOURCE = """\
def inner(x):
    y = (
        x + 1
    )
    return y * 2


def outer(x):
    a, b = inner(x), 2
    self.kept = inner(x)
    inner(x)
    return inner(x)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "code.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([("inner", 3), ("outer", 9)], "y"),
        ([("inner", 5), ("outer", 9)], "a, b"),
        ([("inner", 5), ("outer", 10)], "self.kept"),
        ([("inner", 5), ("outer", 11)], "inner"),
        ([("Class.inner", 5), ("outer", 12)], "inner"),
        ([], ""),
    ],
)
def test_the_innermost_assignment_names_it_and_else_the_function(folder, lines, names):
    frames = [(str(folder / "code.py"), line, function) for function, line in lines]
    elsewhere = [("/elsewhere/library.py", 1, "library")]
    assert assigned([*elsewhere, *frames, *elsewhere], folder) == names
