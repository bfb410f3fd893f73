"""The documentation's code runs, its links lead somewhere, and the files it names exist."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

import twingrad
from bench.harness import frameworks
from tests.docs import pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
FOLDERS = "bench|shared|torch_impl|jax_impl|twingrad|tests"


needs_both = pytest.mark.skipif(
    not all(frameworks.installed(name) for name in frameworks.NAMES),
    reason="it needs both frameworks",
)
KINDS = ("equinox", "function", "haiku", "keras", "linen", "map")


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """A folder with the files that the guide to porting lets its reader save."""
    for command in pages.commands("docs/porting.md"):
        if command.is_file:
            name, _, text = command.text.removeprefix("cat > ").partition(" <<'END'\n")
            (tmp_path / name).write_text(text.removesuffix("END"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.slow
@needs_both
def test_the_code_of_porting_runs_and_finds_what_it_says(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "my_pair", importlib.import_module("my_pair"))
    runpy.run_path(str(saved / "find_mistakes.py"))
    runpy.run_path(str(saved / "test_port.py"))["test_the_port_is_the_model"]()


@pytest.mark.slow
@needs_both
@pytest.mark.parametrize("kind", KINDS)
def test_the_guides_pair_of_every_kind_is_equal(kind, saved, monkeypatch):
    if kind == "keras":
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        pytest.importorskip("keras")
    assert twingrad.diagnose(saved / f"{kind}_pair.py") == []
    assert {path.stem for path in saved.glob("*_pair.py")} == {
        "my_pair", "apart_pair", "decode_pair", *(f"{name}_pair" for name in KINDS)
    }  # fmt: skip


@pytest.mark.slow
@needs_both
def test_the_guides_decoder_sees_one_position_too_many_and_no_other_mistake(saved):
    path = saved / "decode_pair.py"
    (finding,) = twingrad.diagnose(path)
    assert finding.where == "prefill of 3, position 0 (JAX)"
    path.write_text(path.read_text().replace("at[:, None] + 1", "at[:, None]"))
    assert twingrad.diagnose(path) == []


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@each_page
def test_sources_and_modules_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w/]+\.py)\b", text):
        assert (ROOT / name).exists(), name
    for module in re.findall(rf"-m ((?:{FOLDERS})[\w.]*\w)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
