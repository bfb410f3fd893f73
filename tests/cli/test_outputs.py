"""What commands write to, and what they print of others."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from bench.cli.main import COMMANDS, main
from bench.harness import records
from tests.helpers.commands import refused

PLAN = ("plan", "--preset", "tiny", "--json")
STEERING = "\x1b]0;title\x07\x1b[2Jtext\x9b31m\ud800"


@pytest.mark.attack("data")
def test_a_record_goes_into_a_pipe_and_through_a_link_which_stay_what_they_are(tmp_path):
    pipe, link, read = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert main([*PLAN, str(pipe)]) == 0
    reader.join(30)
    assert json.loads(read[0])["layouts"]
    link.symlink_to(tmp_path / "file")
    assert main([*PLAN, str(link)]) == 0
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert link.is_symlink()
    assert json.loads((tmp_path / "file").read_text()) == json.loads(read[0])


@pytest.mark.attack("data")
def test_a_record_into_nothing_leaves_nothing_where_it_is(tmp_path):
    before = os.stat(os.devnull)
    assert main([*PLAN, os.devnull]) == 0
    after = os.stat(os.devnull)
    assert (after.st_ino, after.st_mode, after.st_rdev) == (
        before.st_ino,
        before.st_mode,
        before.st_rdev,
    )


PATHS = [
    (command, one)
    for command in COMMANDS
    for one in command.declared()
    if one.kind is Path and not one.option.positional
]


@pytest.mark.attack("data")
@pytest.mark.parametrize(
    ("command", "declared"),
    PATHS,
    ids=[f"{command.title}-{one.name}".replace(" ", "-") for command, one in PATHS],
)
def test_an_empty_path_is_refused(capsys, tmp_path, monkeypatch, command, declared):
    monkeypatch.chdir(tmp_path)
    file = ["pair.py"] if command.usage.startswith("FILE.py") else []
    assert "the path is empty" in refused(capsys, command.name, *file, declared.flag, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.attack("sentences")
@pytest.mark.parametrize(
    "place", [("results", 0, "contestant"), ("results", 0, "status"), ("ratios", 0, "denominator")]
)
def test_a_name_in_a_record_cannot_steer_the_terminal(capsys, tmp_path, place):
    found = records.load("speed-small-cpu").as_object()
    part, number, key = place
    found[part][number][key] = STEERING * 50_000
    path = tmp_path / "record.json"
    path.write_text(json.dumps(found))
    assert main(["bench", "--check", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.rstrip("\n").isprintable()
    assert len(said.err) < 2000
