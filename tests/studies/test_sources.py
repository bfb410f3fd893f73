"""Digests of sources: they follow a move, and see a changed constant."""

import pytest

from bench.studies import sources

TEXT = '''"""A module."""

import numpy as np

from shared import random
from shared.files import load

LIMIT: float = 3.0


def f(x: int) -> int:
    """The exponential."""
    import jax

    # A comment.
    return np.exp(x) + random.bits(LIMIT) + load(jax)


class A:
    """A class."""

    x: int = 2
    y: str
'''
MOVED = """from numpy import exp
import jax
import shared.threefry
from shared import files
from shared.threefry import bits


class A:
    x = 2
    y: int


def f(x):
    return exp(x) + bits(LIMIT) + files.load(jax)


LIMIT = 3.0
"""


def _digest(folder, **texts):
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return sources.digest(("*.py",), folder)


def test_imports_comments_docstrings_annotations_and_order_do_not_count(tmp_path):
    assert _digest(tmp_path / "a", one=TEXT) == _digest(tmp_path / "b", one=MOVED)


def test_a_renamed_file_and_a_moved_definition_do_not_count(tmp_path):
    head, _, tail = MOVED.partition("def f")
    whole = _digest(tmp_path / "a", one=MOVED)
    assert _digest(tmp_path / "b", another=MOVED) == whole
    imports = head.partition("class")[0]
    assert _digest(tmp_path / "c", one=head, another=f"{imports}def f{tail}") == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3.0", "LIMIT = 3.5"),
        ("x = 2", "x = 3"),
        ("exp(x) + bits", "exp(x) - bits"),
        ("bits(LIMIT)", "bits(None)"),
        ("from numpy import exp", "from math import exp"),
        ("def f(x)", "def f(x, y=1)"),
    ],
)
def test_a_change_of_code_counts(tmp_path, old, new):
    assert MOVED.count(old) == 1
    assert _digest(tmp_path / "a", one=MOVED) != _digest(
        tmp_path / "b", one=MOVED.replace(old, new)
    )


def test_one_definition_of_a_file_can_be_named(tmp_path):
    (tmp_path / "one.py").write_text(MOVED)
    before = sources.digest(("one.py::f",), tmp_path)
    (tmp_path / "one.py").write_text(MOVED.replace("x = 2", "x = 3"))
    assert sources.digest(("one.py::f",), tmp_path) == before


@pytest.mark.parametrize("pattern", ["absent.py", "one.py::absent"])
def test_a_source_that_is_not_there_is_named(tmp_path, pattern):
    (tmp_path / "one.py").write_text(MOVED)
    with pytest.raises(ValueError, match=f"there is no source {pattern}"):
        sources.digest((pattern,), tmp_path)
