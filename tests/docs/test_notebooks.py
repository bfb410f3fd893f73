"""Notebooks are those of the pages, valid, and run from their first cell to the last."""

import json
import subprocess
import sys

import pytest

from bench.harness import frameworks
from bench.tutorial import listings, notebooks, pages

EACH = [(page, kind) for page in pages.tutorial() for kind in notebooks.KINDS]
each_notebook = pytest.mark.parametrize(
    ("page", "kind"), EACH, ids=[f"{page.stem}-{kind}" for page, kind in EACH]
)
# Stands in for IPython, which registers a cell's magics; a cell is then run as IPython runs it.
RUNNER = """
import json, sys, types

magics = {}
magic = types.ModuleType("IPython.core.magic")
magic.register_cell_magic = lambda f: magics.setdefault(f.__name__, f)
sys.modules |= {"IPython": types.ModuleType("IPython"), "IPython.core": types.ModuleType("core"),
    "IPython.core.magic": magic}
names = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        text = "".join(cell["source"])
        if text.startswith("%%"):
            head, _, body = text.partition("\\n")
            magics[head[2:]]("", body)
        else:
            exec(compile(text, cell["id"], "exec"), names)
            for name in ("IPython", "IPython.core", "IPython.core.magic"):
                sys.modules.pop(name, None)  # libraries look whether they are within IPython
print("all cells were run")
"""


def _read(page, kind):
    return json.loads(notebooks.path_of(page, kind).read_text(encoding="utf-8"))


def _sources(notebook):
    return [(c["cell_type"], c["id"], "".join(c["source"])) for c in notebook["cells"]]


@each_notebook
def test_a_notebook_is_its_page(page, kind):
    assert _sources(_read(page, kind)) == _sources(notebooks.notebook(page, kind))


def test_there_are_no_other_notebooks():
    expected = {notebooks.path_of(page, kind) for page, kind in EACH}
    assert {*notebooks.FOLDER.glob("*")} == expected


@each_notebook
def test_a_cells_output_is_the_listing_of_its_block(page, kind):
    printed = [
        "".join(output["text"])
        for cell in _read(page, kind)["cells"]
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    ]
    sides = frameworks.NAMES if kind == notebooks.BOTH else (kind,)
    for side in sides:
        for listing, _ in listings.owners(page, side):
            assert listings.stripped(listing.text) in map(listings.stripped, printed)


def test_pictures_are_within_the_notebooks():
    for kind in notebooks.KINDS:
        drawn = [
            output
            for page in pages.tutorial()
            for cell in _read(page, kind)["cells"]
            for output in cell.get("outputs", ())
            if output["output_type"] == "display_data"
        ]
        assert len(drawn) >= 4
        assert all(len(output["data"]["image/png"]) > 1000 for output in drawn)


def test_the_frame_of_a_page_is_not_in_a_notebook():
    for page, kind in EACH:
        for _, _, text in _sources(_read(page, kind)):
            assert "<td>" not in text
            assert "<!--" not in text
            assert "<details>" not in text


def test_a_notebook_of_one_column_has_nothing_of_the_other():
    for page in pages.tutorial():
        for kind, other in (("torch", "jax"), ("jax", "torch")):
            code = [text for cell, _, text in _sources(_read(page, kind)) if cell == "code"]
            _setup, *blocks = code
            assert not any(f"from {other}_impl" in text for text in blocks)


@pytest.mark.slow
@each_notebook
def test_a_notebook_is_in_the_format_of_jupyter(page, kind):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbformat.validate(_read(page, kind))


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_to_its_end(page, kind):
    needed = frameworks.NAMES if kind == notebooks.BOTH else (kind,)
    for name in needed:
        if not frameworks.installed(name):
            pytest.skip(f"{name} is not installed")
    path = notebooks.path_of(page, kind)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(path)],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all cells were run"
