"""Fixtures of several files of this folder."""

import pytest


@pytest.fixture
def folder(tmp_path):
    """A folder of ten texts, and files that are none."""
    root = tmp_path / "texts"
    (root / "inner" / "most").mkdir(parents=True)
    (root / ".git").mkdir()
    for i in range(10):
        where = root if i % 2 else root / "inner" / "most"
        (where / f"{i}.txt").write_text(f"<text {i}, naïve>\r\n", encoding="utf-8", newline="")
    (root / ".git" / "config").write_text("hidden")
    (root / ".hidden.txt").write_text("hidden")
    (root / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (root / "empty.txt").write_bytes(b"")
    return root
