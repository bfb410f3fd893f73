"""README and docs show what the records say; a page that does not is told and rendered again."""

import shutil

import pytest

from bench.reporting import __main__ as command
from bench.reporting import figures, markdown

DRAWN = ("ladder", "attention")
PAGE = "docs/security.md"


def test_no_page_or_picture_differs_from_the_records(capsys):
    assert command.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The pages in a folder of their own, with two of the pictures."""
    for page in markdown.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(markdown.ROOT / page, tmp_path / page)
    chosen = {
        path: name for path, name in figures.files(tmp_path / "docs").items() if name[0] in DRAWN
    }
    for path in chosen:
        shutil.copy(markdown.ROOT / "docs" / path.name, path)
    monkeypatch.setattr(markdown, "ROOT", tmp_path)
    monkeypatch.setattr(markdown, "files", lambda folder: chosen)
    return tmp_path


def test_a_number_that_was_typed_is_told_and_rendered_again(copied, capsys):
    page, picture = copied / PAGE, copied / "docs" / "ladder-dark.svg"
    before, drawn = page.read_text(), picture.read_text()
    assert command.main(["--check"]) == 0
    block = markdown._BLOCK.search(before)
    changed = block[0].replace("1", "7")
    page.write_text(before.replace(block[0], changed))
    picture.write_text(drawn.replace(figures.digest("ladder"), "0" * 16))
    assert command.main(["--check"]) == 1
    said = f"stale: {PAGE}, docs/ladder-dark.svg differ from the records; run python -m"
    assert capsys.readouterr().err.startswith(said)
    assert page.read_text() != before
    assert command.main([]) == 0
    assert page.read_text() == before
    assert figures.digest("ladder") in picture.read_text()


def test_a_block_that_there_is_not_is_refused_by_its_name(copied, capsys):
    page = copied / PAGE
    page.write_text(page.read_text() + "<!-- from nonsense:compare-cpu -->\n<!-- end -->\n")
    assert command.main(["--check"]) == 2
    assert capsys.readouterr().err.startswith("reporting: unknown block 'nonsense': choose from ")
