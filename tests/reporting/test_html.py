"""The page of other records, its file, and the command that writes it."""

import copy
import json
import shutil
from dataclasses import replace

import pytest

from bench.cli.main import main
from bench.harness import frameworks
from bench.harness import records as harness_records
from bench.reporting import html, markdown, source_diff
from bench.speed import derivation
from bench.speed.results import SpeedRecord
from tests.helpers.page import Element, read, sections_of, text_of
from twingrad import page as twingrad_page

RECORDS = {
    "verdict": "compare-cpu",
    "defaults": "defaults-cpu",
    "layers": "compare-cpu",
    "tensors": "compare-cpu",
    "training": "training-cpu",
    "planted": "mutants-cpu",
    "diagnosed": "diagnosis-cpu",
    "speed": "speed-small-cpu",
}


def _small(comparison):
    """The comparison of SimpleNet alone."""
    programs = [p for p in comparison["programs"] if p["program"] == "simple-net"]
    return {**comparison, "programs": programs}


@pytest.mark.slow
def test_a_comparison_that_is_given_takes_the_place_of_the_record(comparison):
    given = copy.deepcopy(_small(comparison))
    given["environment"]["hardware"]["processor"] = "another machine"
    page = read(html.make(given))
    assert "layers" not in sections_of(page)
    assert "gpt2 124m" not in page.text
    assert "another machine" in page.one("section", id="environment").text
    assert "compare-cpu.json" not in page.text


def test_a_failed_comparison_says_so_and_where(comparison, records):
    given = copy.deepcopy(_small(comparison))
    program = given["programs"][0]
    gate = program["gates"][0]
    gate["tensors"][2] |= {"ok": False, "factor": 1.7e6}
    given["ok"] = program["ok"] = gate["ok"] = False
    program["first_divergence"] = {"forward": gate["tensors"][2]["name"], "backward": None}
    verdict = read(html.make(given)).one("section", id="verdict")
    assert "Not equal" in verdict.text
    assert "1.7e+06×" in verdict.text
    assert f"forward at {gate['tensors'][2]['name']}" in text_of(verdict)
    assert "DIFFERS" in verdict.text


@pytest.mark.slow
def test_what_a_record_says_is_text_and_never_a_tag(comparison, records):
    evil = "<script>alert('x')</script>&amp;\"<b onclick=x>"
    given = copy.deepcopy(_small(comparison))
    given["programs"][0]["program"] = given["programs"][0]["gates"][0]["gate"] = evil
    for program in given["programs"]:
        program["gates"][0]["tensors"][0]["name"] = evil
    given["environment"]["versions"] = {evil: evil}
    mutants = json.loads((markdown.ROOT / "bench/results/mutants-cpu.json").read_text())
    mutants["mutants"][0] |= {"name": evil, "about": evil, "gate": evil, "first": evil}
    (records / "mutants-cpu.json").write_text(json.dumps(mutants))
    text = html.make(given)
    assert read(text).one("script").text == twingrad_page.web("find.js")
    assert text.count("<script") == 1
    assert "<b onclick" not in text
    assert evil in read(text).text


@pytest.mark.slow
def test_without_records_only_the_sources_and_the_phrasebook_are_left(records):
    assert sections_of(read(html.make())) == ["sources", "phrases"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(RECORDS.values())))
def test_a_record_brings_its_own_section_and_its_machine(records, name):
    shutil.copy(markdown.ROOT / "bench" / "results" / f"{name}.json", records)
    own = [section for section, needed in RECORDS.items() if needed == name]
    expected = {"sources", "phrases", "environment", *own}
    assert set(sections_of(read(html.make()))) == expected


@pytest.mark.slow
def test_defaults_that_differ_have_a_section_when_there_is_a_record(records, comparison):
    row = {
        "topic": "`LayerNorm` epsilon",
        "torch": "1e-5",
        "jax": "1e-6",
        "effect": "logits move",
        "how": "by a run",
    }
    content = {"environment": comparison["environment"], "rows": [row]}
    (records / "defaults-cpu.json").write_text(json.dumps(content))
    section = read(html.make()).one("section", id="defaults")
    assert [text_of(cell) for cell in section.one("tbody").one("tr").content if cell != "\n"] == [
        "LayerNorm epsilon",
        *list(row.values())[1:],
    ]
    assert section.one("th", scope="row").one("code").text == "LayerNorm"


@pytest.mark.slow
def test_growth_and_ladders_have_their_tables(records):
    found = json.loads((markdown.ROOT / "bench/results/speed-small-cpu.json").read_text())
    rows = [row for row in found["results"] if row["workload"] == "train"][:2]
    found["results"] = [{**row, "tier": "ladder", "variant": "ladder"} for row in rows]
    for length in (64, 128, 256, 512):
        grown = {"workload": "growth", "variant": f"length {length}", "length": length}
        able = rows if length < 512 else rows[:1]  # the other one had no memory for it
        found["results"] += [{**row, **grown, "median_s": length / 100} for row in able]
    measured = SpeedRecord.from_json(found)
    measured = replace(measured, growth=tuple(derivation.growth(measured.results)))
    (records / "speed-growth-cpu.json").write_text(json.dumps(measured.to_json()))
    section = read(html.make()).one("section", id="speed")
    titles = [text_of(title) for title in section.all("h3")]
    assert titles[0].startswith("train, ladder")
    assert any(title.startswith("Growth with length") for title in titles)
    table = section.one("div", **{"aria-label": "Table: growth with length in tokens"}).one("table")
    last = [[text_of(c) for c in row.content if isinstance(c, Element)] for row in table.all("tr")]
    head, long, short = (row[-4:] for row in last)
    assert head == ["256", "512", "exponent", "R²"]
    assert long == ["2.56 s", "5.12 s", "1.00", "1.000"]
    assert short == ["2.56 s", "", "1.00", "1.000"]
    assert len(list(section.all("svg"))) == 2


# The file.


def test_what_is_written_is_the_page(tmp_path, text):
    html.write(tmp_path / "report.html", None)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="cannot write"):
        html.write(tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("compare-cpu", {"programs": []}),
        ("compare-cpu", {"environment": {}, "ok": True, "programs": [{"program": "gpt2"}]}),
        ("mutants-cpu", {"environment": {}, "clean_ok": True, "mutants": [[]]}),
        ("training-cpu", {"environment": {}, "runs": {"default": {"frameworks": "ab"}}}),
        ("defaults-cpu", {"environment": {}, "rows": [{"topic": 3}]}),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    monkeypatch.setattr(
        source_diff, "twin_files", lambda outcomes, times: []
    )  # which no record changes
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert main(["report", "--html", str(tmp_path / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not what its command writes" in line
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "\xff"])
def test_a_record_that_is_no_object_is_refused_by_its_path(tmp_path, monkeypatch, content):
    monkeypatch.setattr(harness_records, "RESULTS", tmp_path)
    (tmp_path / "compare-cpu.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"compare-cpu\.json is not"):
        markdown.fill("<!-- from compare:compare-cpu -->\n<!-- end -->")


# The command line.


def test_the_command_writes_the_page_and_says_where(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["report", "--html", str(path)]) == 0
    assert path.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert str(path) in capsys.readouterr().out


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    assert main(["report", "--html", str(tmp_path / "nowhere" / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not exist" in line


@pytest.mark.slow
@pytest.mark.skipif(
    not all(frameworks.installed(name) for name in frameworks.NAMES),
    reason="a comparison has two sides",
)
def test_compare_writes_a_page_of_what_it_found(tmp_path, capsys):
    path = tmp_path / "page.html"
    call = ["compare", "sigmoid-bce", "--dtype", "float64", "--html", str(path)]
    assert main(call) == 0
    text = path.read_text(encoding="utf-8")
    assert "sigmoid-bce" in text
    capsys.readouterr()
