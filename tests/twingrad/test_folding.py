"""Tables fit their console and lose nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from tests.helpers.consoles import assert_fits, shown
from twingrad.folding import folded
from twingrad.terminal import put, table


def _table(rows=3, columns=6, long="h.11.attn.c_proj.weight"):
    heads = [f"measure {i}" for i in range(columns)]
    made = table("tensor", *heads, "", title="A title", right=tuple(heads), below={"": "tensor"})
    for i in range(rows):
        made.add_row(f"[bold]{long}[/]", *(f"{1000 + i},{j:03}" for j in range(columns)), "equal")
    made.note = "A note that is longer than the narrowest of the consoles that it is printed on."
    return made


@pytest.mark.parametrize("columns", [1, 4, 9, 20])
def test_a_table_fits_its_console_and_keeps_every_number_whole(columns):
    assert_fits(lambda console: put(console, _table(columns=columns)))


def test_a_row_that_does_not_fit_becomes_lines_of_column_and_value():
    text = shown(lambda console: put(console, _table(rows=1, columns=4)), 44)
    assert "   measure 0  1000,000" in text
    assert "h.11.attn.c_proj.weight" in text


def test_columns_without_a_cell_are_left_out():
    made = table("a", "b", "c")
    made.add_row("1", "", "3")
    assert "b" not in shown(lambda console: put(console, made), 80)


def test_an_empty_table_still_has_its_heads():
    assert "a" in shown(lambda console: put(console, table("a", "b")), 80)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])), st.integers(2, 30))
def test_folding_loses_no_character(text, width):
    lines = folded(Text(text), width).split("\n")
    assert "".join(line.plain for line in lines) == text
    assert all(line.cell_len <= width for line in lines)


def test_names_are_folded_behind_their_marks():
    assert folded(Text("h.0.attn.c_proj.bias"), 12).plain == "h.0.attn.\nc_proj.bias"
    assert folded(Text("central-differences"), 12).plain == "central-\ndifferences"
    assert folded(Text("one two three"), 8).plain == "one two\nthree"
