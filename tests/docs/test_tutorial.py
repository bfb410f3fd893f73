"""The tutorial is pasted as a reader pastes it: a page's blocks in order, one column at a time."""

import code
import contextlib
import functools
import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn
from unittest import mock

import pytest

from bench.harness import frameworks
from tests.docs import pages
from twingrad import numerics

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("tutorial-*.md"))
CHAPTER = re.compile(r"^## (\d+) ", re.MULTILINE)
# Code in a column is narrow, so that two of them stand side by side.
COLUMN_WIDTH = 88

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


class Prompt(code.InteractiveConsole):
    """Python's prompt, which raises what it would show."""

    def runcode(self, code: CodeType) -> None:
        """Run a statement without showing its value, which no listing has."""
        with mock.patch("sys.displayhook"):
            super().runcode(code)

    def showsyntaxerror(self, filename: str | None = None, **_: Any) -> NoReturn:
        raise

    def showtraceback(self) -> NoReturn:
        raise

    def paste(self, text: str) -> None:
        """Give it a block line by line, and Enter after it."""
        for line in [*text.splitlines(), ""]:
            more = self.push(line)
        assert not more, f"a statement does not end: {text}"


@functools.cache
def _run(page: Path, side: str) -> dict[str, Any]:
    """The names that a column leaves behind, after all its blocks and checks of their listings."""
    names: dict[str, Any] = {"__name__": page.stem}
    said = ""
    prompt = Prompt(names)
    for block in pages.column(page, side):
        if block.language == "python":
            prompt.filename = f"{page.name}, block of line {block.line}"
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                prompt.paste(block.text)
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


@pytest.mark.slow("jax-tutorial-1-models", "jax-tutorial-4-gpt2")
@each_page
def test_every_block_of_a_column_is_pasted_and_prints_its_listings(page, framework):
    assert _run(page, framework.name)


@pytest.mark.slow
@each_page
def test_a_column_pasted_into_python_needs_one_framework_alone(page, framework):
    """A prompt shows an error and goes on: what it wrote is looked through."""
    others = {*frameworks.NAMES} - {framework.name}
    program = (
        f"{pages.pasted(page, framework.name)}import sys\nsorted({others} & {{*sys.modules}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-i"], input=program, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Error" not in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@each_page
def test_blocks_outside_of_tables_need_neither_framework(page):
    program = pages.pasted(page, "")
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
    blocks = [block for block in pages.blocks(page) if block.language == "python" and block.side]
    assert [block.side for block in blocks] == list(frameworks.NAMES) * (len(blocks) // 2)
    for block in blocks:
        for number, line in enumerate(block.text.splitlines(), block.line):
            assert len(line) <= COLUMN_WIDTH, f"{page.name}, line {number}"
