"""The tutorial is run as a reader runs it: a page's blocks in order, one column at a time."""

import contextlib
import functools
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench.harness import frameworks
from twingrad import numerics

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("tutorial-*.md"))
FENCE = re.compile(r"```(\w*)")
CHAPTER = re.compile(r"^## (\d+) ", re.MULTILINE)
# Code in a column is narrow, so that two of them stand side by side.
COLUMN_WIDTH = 88

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@dataclass(frozen=True)
class Block:
    """One fenced block: ``side`` is the framework of its column, or "" outside of tables."""

    language: str
    side: str
    line: int
    text: str


def _blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page: the first cell of a row is PyTorch's, the second JAX's."""
    cell, language, inside = 0, None, False
    first, lines = 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if language is not None:
            if line == "```":
                side = frameworks.NAMES[cell - 1] if inside else ""
                yield Block(language, side, first, "".join(f"{row}\n" for row in lines))
                language = None
            else:
                lines.append(line)
        elif fence := FENCE.fullmatch(line):
            language, first, lines = fence[1], number + 1, []
        elif line in ("<table>", "</table>"):
            inside = line == "<table>"
        elif line == "<tr>":
            cell = 0
        elif line == "<td>":
            cell += 1
    assert language is None, f"{page.name}: a block that begins at line {first} does not end"


def _program(page: Path, side: str) -> list[Block]:
    """What a reader of one column meets: its own blocks, and those that are both columns'."""
    return [block for block in _blocks(page) if block.side in ("", side)]


@functools.cache
def _run(page: Path, side: str) -> dict[str, Any]:
    """The names that a column leaves behind, after all its blocks and checks of their listings."""
    names: dict[str, Any] = {"__name__": page.stem}
    said = ""
    for block in _program(page, side):
        if block.language == "python":
            # The block's lines are the page's, for whoever reads a traceback.
            source = "\n" * (block.line - 1) + block.text
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                exec(compile(source, str(page), "exec"), names)
            said = stdout.getvalue()
        elif block.language == "text" and (not block.side or _is_pinned(block.side)):
            assert _stripped(said) == _stripped(block.text), f"{page.name}, line {block.line}"
    return names


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def _is_pinned(side: str) -> bool:
    """Whether the framework is the release of the listings: others word their graphs otherwise."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return f"{side}=={version(side).partition('+')[0]}" in pins


@each_page
def test_every_block_of_a_column_runs_and_its_listings_are_what_it_prints(page, framework):
    assert _run(page, framework.name)


@each_page
def test_blocks_outside_of_tables_need_neither_framework(page):
    program = "".join(block.text for block in _program(page, "") if block.language == "python")
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not {"torch", "jax", "flax", "optax"} & set(loaded)


def test_both_columns_of_gpt2_come_to_the_same_numbers(frameworks, assert_same64):
    (page,) = (page for page in PAGES if page.stem.endswith("gpt2"))
    ours, theirs = (_run(page, framework.name) for framework in frameworks)
    assert_same64(ours["gradients"], theirs["gradients"])
    for name, relative in (
        ("loss", numerics.FLOAT64_RELATIVE),
        ("logits", numerics.FLOAT64_RELATIVE),
        ("losses", numerics.FLOAT64_TRAJECTORY_RELATIVE),
    ):
        assert_same64({name: ours[name]}, {name: theirs[name]}, relative)
    assert ours["generated"].tolist() == theirs["generated"].tolist()


def test_both_columns_of_models_come_to_the_same_losses(frameworks):
    (page,) = (page for page in PAGES if page.stem.endswith("models"))
    ours, theirs = (_run(page, framework.name) for framework in frameworks)
    for name in ("before", "tuned", "scratch"):
        relative = numerics.FLOAT64_TRAJECTORY_RELATIVE
        assert ours[name] == pytest.approx(theirs[name], rel=relative, abs=0), name


def test_chapters_are_all_there_in_order():
    found = [int(number) for page in PAGES for number in CHAPTER.findall(page.read_text("utf-8"))]
    assert found == list(range(1, 13))


@each_page
def test_columns_come_in_pairs_and_are_narrow(page):
    blocks = [block for block in _blocks(page) if block.language == "python" and block.side]
    assert [block.side for block in blocks] == list(frameworks.NAMES) * (len(blocks) // 2)
    for block in blocks:
        for number, line in enumerate(block.text.splitlines(), block.line):
            assert len(line) <= COLUMN_WIDTH, f"{page.name}, line {number}"
