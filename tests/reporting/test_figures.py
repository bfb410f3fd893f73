"""Pictures of README and docs: whole, and drawn for light and for dark pages."""

import re

import pytest

from bench.harness.records import ROOT
from bench.reporting import figures
from bench.speed.markdown import growth_figure, ladder_figure


@pytest.mark.parametrize("make", [ladder_figure, growth_figure, figures.equality_figure])
def test_no_label_is_cut_off_at_the_edge(make):
    figure = make()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    drawn = figure.get_tightbbox()
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01


def test_every_picture_has_a_light_and_a_dark_file_of_the_same_records():
    for path, (name, ink) in figures.files(ROOT / "docs").items():
        text = path.read_text(encoding="utf-8")
        assert figures.digest(name) in text
        foreground, background = figures.INKS[ink]
        assert foreground in text
        assert background in text


@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "docs/benchmark.md", "docs/training.md", "docs/tutorial-1-models.md"),
        *("docs/tutorial-3-gradients.md", "docs/tutorial-4-networks.md", "docs/tutorial-5-gpt2.md"),
    ],
)
def test_a_page_offers_the_dark_picture_to_readers_in_the_dark(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    pairs = re.findall(
        r'<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="([\w/-]+)-dark\.svg">\n'
        r'<img alt="[^"]+" src="([\w/-]+)\.svg">\n</picture>',
        text,
    )
    assert len(pairs) == text.count(".svg") / 2 > 0
    for dark, light in pairs:
        assert dark == light
        for end in (".svg", "-dark.svg"):
            assert (ROOT / page).parent.joinpath(light + end).exists()
