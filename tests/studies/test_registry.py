"""The registry of studies: every record is claimed once and listed with its sources' state."""

import json
import re
from types import SimpleNamespace

import pytest

from bench.harness import frameworks, records
from bench.harness.records import Record
from bench.reporting import markdown
from bench.studies import __main__ as command
from bench.studies import registry, sources
from bench.studies.sources import State
from bench.studies.study import Command, Study

RECORDS = sorted(path.stem for path in records.RESULTS.glob("*.json") if path.name != sources.INDEX)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder in the place of the committed records."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path


def test_every_record_is_claimed_by_exactly_one_study():
    assert sorted(study.record for study in registry.STUDIES.values()) == RECORDS


@pytest.mark.parametrize("study", registry.STUDIES.values(), ids=lambda study: study.name)
def test_a_study_has_a_claim_sources_and_one_way_to_be_run(study):
    assert study.claim
    assert re.fullmatch(r"\w{16}", sources.digest(study.sources))
    assert [study.measure, study.run, study.command].count(None) == 2


def test_every_block_of_a_page_is_rendered_by_a_study_or_by_the_pages():
    known = registry.blocks().keys() | markdown.BLOCKS.keys()
    text = "".join((records.ROOT / page).read_text() for page in markdown.PAGES)
    assert set(re.findall(r"<!-- from ([\w-]+):", text)) <= known


def test_the_index_knows_every_record_as_it_is_committed():
    index = sources.read_index()
    assert sorted(index) == RECORDS
    assert {name: index[name].record for name in RECORDS} == {
        name: sources.of_file(name) for name in RECORDS
    }


def test_the_list_has_every_record_with_its_claim_its_command_and_its_sources(capsys):
    assert command.main([]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for study in registry.STUDIES.values():
        assert f"{study.name}: {study.claim}." in text
        assert f"python -m bench.studies {study.name}" in text
    assert text.count(". sources ") == len(RECORDS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["nonsense"], "unknown study 'nonsense': choose from compare, "),
        (["speed-124m"], "speed-124m needs a checkout of nanogpt: give --peer nanogpt=PATH"),
        (["decoding", "--only", "gelu-erf"], "--only is an option of diagnosis"),
        (["all", "--json", "x.json"], "--json takes the record of one study"),
        (["defaults", "--out", "nowhere"], "--out nowhere is no folder"),
        (["defaults", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_2(capsys, call, message):
    assert command.main(call) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="a difference has two sides"
)
def test_a_study_writes_its_record_where_it_is_told(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert command.main(["findings", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == [
        row["default"] for row in rows
    ]


def _study(root, holds=True) -> Study:
    return Study(
        name="one",
        claim="One is one",
        sources=("source.py",),
        measure=lambda options: Record({"device": "cpu"}, {"rows": [1]}),
        lines=lambda record: iter(["a line"]),
        holds=lambda record: holds,
    )


@pytest.fixture
def study(results, monkeypatch):
    """A study whose only source lies in a folder of its own, and its record."""
    monkeypatch.setattr(records, "ROOT", results)
    monkeypatch.setattr(registry, "STUDIES", {"one": _study(results)})
    (results / "source.py").write_text("LIMIT = 3\n")
    records.save(results / "one-cpu.json", Record({}, {}))
    return registry.STUDIES["one"]


def _state(study):
    return sources.state(study.record, study.sources, sources.read_index())


def test_a_record_is_known_once_its_study_has_written_it_and_changed_with_a_source(study, results):
    assert _state(study) is State.UNKNOWN
    assert command.main(["one"]) == 0
    assert records.load("one-cpu").body == {"rows": [1]}
    assert _state(study) is State.SAME
    (results / "source.py").write_text("LIMIT = 4\n")
    assert _state(study) is State.CHANGED


def test_a_record_that_something_else_wrote_is_not_known(study, results):
    assert command.main(["one"]) == 0
    records.save(results / "one-cpu.json", Record({}, {"rows": [2]}))
    assert _state(study) is State.UNKNOWN


def test_a_broken_bound_is_status_1(study, results, monkeypatch):
    monkeypatch.setitem(registry.STUDIES, "one", _study(results, holds=False))
    assert command.main(["one"]) == 1


def test_several_studies_run_each_in_a_process_with_the_options_that_are_its_own(
    results, monkeypatch, capsys
):
    """The worst status of all is that of the call."""
    called, statuses = [], iter([1, 0])

    def run(words, cwd):
        called.append(words[1:])
        return SimpleNamespace(returncode=next(statuses))

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run))
    options = ["--out", str(results), "--peer", "nanogpt=there", "--most", "3"]
    assert command.main(["speed-124m", "random-pairs", *options]) == 1
    out = f"--out={results}"
    assert called == [
        ["-m", "bench.studies", "speed-124m", out, "--peer=nanogpt=there"],
        ["-m", "bench.studies", "random-pairs", out, "--most=3"],
    ]
    assert capsys.readouterr().err == "== speed-124m\n== random-pairs\n"


def test_a_study_of_peers_hands_their_checkouts_to_its_command(results, monkeypatch):
    called = []

    def run(words, cwd, env):
        called.extend(words[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run))
    path = results / "x.json"
    assert command.main(["speed-124m", "--peer", "nanogpt=there", "--json", str(path)]) == 0
    assert called[:3] == ["-m", "bench", "bench"]
    assert called[-3:] == ["--json", str(path), "--peer=nanogpt=there"]


def test_a_command_is_shown_as_it_is_written():
    bench = Command(arguments=("-m", "bench", "compare"), peer="nanogpt")
    assert bench.shown("x.json") == "twingrad compare --json x.json --peer nanogpt=PATH"
    fuzz = Command(arguments=("-m", "pytest"), environment={"A": "1"}, file="FILE")
    assert fuzz.shown("x.json") == "A=1 FILE=x.json python -m pytest"


@pytest.mark.parametrize("study", registry.STUDIES.values(), ids=lambda study: study.name)
def test_a_study_takes_a_checkout_where_its_command_needs_one(study):
    needs_one = study.command is not None and study.command.peer is not None
    assert ("peer" in study.accepts) == needs_one
