"""The tutorial is pasted as a reader pastes it: a page's blocks in order, one column at a time."""

import ast
import functools
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench.harness import frameworks, records
from bench.studies import tutorial_pictures
from bench.tutorial import listings, prompt
from bench.tutorial import pages as tutorial_pages
from tests.docs import pages
from twingrad import numerics

ROOT = Path(__file__).parents[2]
PAGES = tutorial_pages.tutorial()
CHAPTER = re.compile(r"^## (\d+) ", re.MULTILINE)
# Code in a column is narrow, so that two of them stand side by side.
COLUMN_WIDTH = 88
# Its texts are Python's own, which are others in another release: those of the listings.
OF_PYTHON = {"tutorial-6-training": (3, 11)}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@functools.cache
def _run(page: Path, side: str) -> tuple[dict[str, Any], list[prompt.Ran]]:
    """The names that a column leaves behind, and what each of its blocks printed."""
    names: dict[str, Any] = {"__name__": page.stem}
    return names, list(prompt.run(page, side, names))


def _page(end: str) -> Path:
    (page,) = (page for page in PAGES if page.stem.endswith(end))
    return page


def _is_pinned(side: str) -> bool:
    """Whether the framework is the release of the listings: others word their graphs otherwise."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return f"{side}=={version(side).partition('+')[0]}" in pins


@pytest.mark.slow(
    "jax-tutorial-5-gpt2",
    "*-tutorial-6-training",
    "jax-tutorial-1-models",
    "jax-tutorial-4-networks",
    "jax-tutorial-2-tensors",
    "jax-tutorial-3-gradients",
)
@each_page
def test_every_block_of_a_column_is_pasted_and_prints_its_listings(page, framework):
    _, ran = _run(page, framework.name)
    assert ran
    if OF_PYTHON.get(page.stem, sys.version_info[:2]) == sys.version_info[:2]:
        checked = ["", framework.name] if _is_pinned(framework.name) else [""]
        assert listings.unlike(page, framework.name, ran, checked) == []


@each_page
def test_what_a_column_prints_stands_on_the_page(page):
    for side in frameworks.NAMES:
        shown = {block for _, block in listings.owners(page, side)}
        printing = [
            block.line
            for block in tutorial_pages.column(page, side)
            if block.language == "python" and block not in shown and _prints(block.text)
        ]
        # What both columns print alike stands once, below both of them.
        assert printing == [], f"{page.name}: blocks of {side} print what no listing shows"


def _prints(text: str) -> bool:
    """Whether a block calls ``print`` or the page's ``show``, and not only defines what does."""
    waiting = list(ast.parse(text).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "show"):
            return True
        waiting += ast.iter_child_nodes(node)
    return False


def test_no_listing_is_empty():
    for page in PAGES:
        for side in frameworks.NAMES:
            for listing, _ in listings.owners(page, side):
                assert listing.text.strip(), f"{page.name}, line {listing.line}"


def test_a_listing_that_is_not_what_its_block_prints_is_found(tmp_path):
    page = tmp_path / "tutorial-0.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
    ran = list(prompt.run(page, "torch", {}))
    (found,) = listings.unlike(page, "torch", ran, [""])
    assert found.startswith("tutorial-0.md, line 6: the block above it prints\n2")
    page.write_text(listings.rendered(page, {"torch": ran, "jax": ran}), encoding="utf-8")
    assert listings.unlike(page, "torch", ran, [""]) == []


def test_one_listing_for_columns_that_print_different_lines_is_refused(tmp_path):
    page = tmp_path / "tutorial-0.md"
    cells = "".join(f"<td>\n\n```python\nprint({n})\n```\n\n</td>\n" for n in (1, 2))
    page.write_text(f"<table>\n<tr>\n{cells}</tr>\n</table>\n\n```text\n```\n", encoding="utf-8")
    columns = {side: list(prompt.run(page, side, {})) for side in frameworks.NAMES}
    with pytest.raises(ValueError, match="line 21: the columns print different lines"):
        listings.rendered(page, columns)


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


@pytest.mark.slow
def test_blocks_outside_of_tables_need_neither_framework():
    """Those of all pages, each page with names of its own."""
    program = "import json, sys, traceback\n"
    for page in PAGES:
        shared = [b for b in tutorial_pages.blocks(page) if b.language == "python" and not b.side]
        text = "\n".join(block.text for block in shared if not _needs_a_column(block.text))
        program += f"exec({text!r}, {{'__name__': {page.stem!r}}})\n"
    program += "print(json.dumps(sorted(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not {"torch", "jax", "flax", "optax"} & set(loaded)


def _needs_a_column(text: str) -> bool:
    """Whether a block draws what a column has computed before it."""
    return "plt.subplots" in text and "loglog" not in text


@pytest.mark.slow
def test_both_columns_of_gpt2_come_to_the_same_numbers(frameworks, assert_same64):
    (ours, _), (theirs, _) = (_run(_page("gpt2"), framework.name) for framework in frameworks)
    assert_same64(ours["gradients"], theirs["gradients"])
    for name, relative in (
        ("loss", numerics.FLOAT64_RELATIVE),
        ("logits", numerics.FLOAT64_RELATIVE),
        ("losses", numerics.FLOAT64_TRAJECTORY_RELATIVE),
    ):
        assert_same64({name: ours[name]}, {name: theirs[name]}, relative)
    assert ours["generated"].tolist() == theirs["generated"].tolist()


@pytest.mark.slow
def test_both_columns_of_training_come_to_the_same_losses(frameworks):
    (ours, _), (theirs, _) = (_run(_page("training"), framework.name) for framework in frameworks)
    for name in ("before", "tuned", "scratch", "forgotten"):
        relative = numerics.FLOAT64_TRAJECTORY_RELATIVE
        assert ours[name] == pytest.approx(theirs[name], rel=relative, abs=0), name


@pytest.mark.slow("jax")
def test_the_graphs_that_are_drawn_are_those_of_the_pages(framework):
    record = records.load(tutorial_pictures.RECORD)
    for name, stem in tutorial_pictures.GRAPHS.items():
        (page,) = (page for page in PAGES if page.stem == stem)
        found = _run(page, framework.name)[0]["found"]
        drawn = tutorial_pictures.graph_of(record, name, framework.name)
        assert found.loss == pytest.approx(drawn.loss, rel=numerics.FLOAT64_RELATIVE)
        assert len(found.edges) == len(drawn.edges)
        if _is_pinned(framework.name):
            assert found.nodes == drawn.nodes
            for edge, other in zip(found.edges, drawn.edges, strict=True):
                assert (edge.source, edge.target) == (other.source, other.target)
                if edge.gradient is not None:
                    assert edge.gradient.size == pytest.approx(other.gradient.size, abs=1e-12)


def test_chapters_are_all_there_in_order():
    found = [int(number) for page in PAGES for number in CHAPTER.findall(page.read_text("utf-8"))]
    assert found == list(range(1, 13))


def test_every_chapter_has_exercises_whose_solutions_are_pasted_with_it():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for part in re.split(r"^## (?=\d+ )", text, flags=re.MULTILINE)[1:]:
            assert "**Exercise " in part, f"{page.name}: chapter {part.partition(' ')[0]}"
        numbers = re.findall(r"\*\*Exercise (\d+)\.\*\*", text)
        solutions = re.findall(r"<summary>Solution</summary>(.*?)</details>", text, re.DOTALL)
        assert len(numbers) == len(solutions) > 0
        assert all("```python" in solution for solution in solutions), page.name
    exercises = [
        n for p in PAGES for n in re.findall(r"\*\*Exercise (\d+)\.", p.read_text("utf-8"))
    ]
    assert exercises == [str(n) for n in range(1, len(exercises) + 1)]


@each_page
def test_columns_come_in_pairs_and_are_narrow(page):
    blocks = [b for b in tutorial_pages.blocks(page) if b.language == "python" and b.side]
    assert [block.side for block in blocks] == list(frameworks.NAMES) * (len(blocks) // 2)
    for block in blocks:
        for number, line in enumerate(block.text.splitlines(), block.line):
            assert len(line) <= COLUMN_WIDTH, f"{page.name}, line {number}"
