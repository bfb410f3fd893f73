"""The measurements of the tests themselves: what is drawn, run, kept and shown."""

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.harness.records import Record
from bench.studies import quality
from bench.studies.quality import OTHER
from tests.helpers.sources import ROOT
from tests.quality import bugs, covered, kinds, mutation, planting, reach, runner, times
from tests.quality.__main__ import main
from tests.quality.judgements import UNREACHED
from tests.quality.planting import Mutant
from tests.quality.runner import Fate, Kept, Runner

SOURCE = '''"""A module."""

LIMIT = 3


def f(x, y=(1,
            2)):
    """A function."""
    if (x
            > LIMIT):
        return max(
            x,
            *y,
        )
    try:
        return g(x)
    except ValueError:
        return 0


class A:
    size = 1

    def h(self): return self.size
'''


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (3, (3, 3, True)),
        (6, (6, 7, True)),
        (7, (6, 7, True)),
        (9, (9, 10, False)),
        (10, (9, 10, False)),
        (12, (11, 14, False)),
        (16, (16, 16, False)),
        (17, (17, 17, False)),
        (18, (18, 18, False)),
        (22, (22, 22, True)),
    ],
)
def test_the_statement_of_a_line_and_when_it_runs(line, expected):
    assert runner.statement(SOURCE, line) == expected


def _mutant(source, number=0):
    return Mutant(
        file="twingrad/arithmetic.py", number=number, line=1, before="a", after="b", source=source
    )


def test_what_was_killed_stays_so_and_what_survived_is_run_by_other_tests(tmp_path):
    kept = Kept(tmp_path / "fates.jsonl")
    killed, alive = Fate(killed=True, how="t", tests=3), Fate(killed=False, how="", tests=2)
    kept.add(_mutant("one"), "some", killed)
    kept.add(_mutant("two"), "some", alive)
    for known in (kept, Kept(tmp_path / "fates.jsonl")):
        assert known.find(_mutant("one"), "others") == killed
        assert known.find(_mutant("two"), "some") == alive
        assert known.find(_mutant("two"), "others") is None
        assert known.find(_mutant("three"), "some") is None


def test_a_planted_mutant_is_there_as_long_as_the_block_and_is_compiled_anew(tmp_path):
    path = tmp_path / "twingrad" / "arithmetic.py"
    path.parent.mkdir()
    path.write_text("own")
    before = path.stat().st_mtime_ns
    with Runner(tmp_path, tmp_path).planted(_mutant("new", number=4)):
        assert path.read_text() == "new"
        assert path.stat().st_mtime_ns == before + 5_000_000_000
    assert path.read_text() == "own"
    assert path.stat().st_mtime_ns == before


def test_lines_are_written_in_short():
    assert covered._ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert covered._ranges([]) == ""


def test_every_part_has_its_modules_and_tests():
    for part in mutation.PARTS.values():
        for path in (*part.files, *part.tests):
            assert (ROOT / path).is_file(), path


@pytest.mark.slow
def test_mutants_are_the_same_for_a_seed_and_change_one_place():
    pytest.importorskip("mutmut", reason="mutmut is in the extra `quality`")
    files = ["twingrad/timing/__init__.py", "twingrad/arithmetic.py", "twingrad/anchors.py"]
    drawn = planting.draw(files, 12, seed=3)
    assert [one.name for one in drawn] == [one.name for one in planting.draw(files, 12, seed=3)]
    assert drawn != planting.draw(files, 12, seed=4)
    assert len({one.file for one in drawn}) > 1
    for one in drawn:
        text = (ROOT / one.file).read_text()
        assert one.source != text
        compile(one.source, one.file, "exec")
        first = text.splitlines()[one.line - 1].strip()
        assert one.before.splitlines()[0] == first
    assert planting.count(files) > 20


def _part(name, killed, survivors):
    return {
        "name": name,
        "mutants": killed + len(survivors),
        "killed": killed,
        "survivors": survivors,
    }


def _survivor(judgement):
    return {
        "file": "a.py", "line": 3, "before": "x |= 1", "after": "x = 1",
        "how": "all tests pass", "judgement": judgement,
    }  # fmt: skip


def test_survivors_are_shown_with_their_judgement_and_counted():
    parts = [_part("one", 9, [_survivor("equivalent: x is 0")]), _part("two", 19, [])]
    record = Record({}, {"parts": parts})
    table = quality.mutation_table(record)
    assert "| one | 10 | 9 (90.0%) | 1 | 1 |" in table
    assert "| all | 29 | 28 (96.6%) | 1 | 1 |" in table
    assert "| `a.py`, line 3 | `x \\|= 1` → `x = 1` | equivalent: x is 0 |" in table
    assert list(quality.broken("mutants", record)) == []
    parts.append(_part("three", 8, [_survivor(None)] * 2))
    assert list(quality.broken("mutants", record)) == [
        "three: 80.0% are noticed, expected 90%",
        *["a.py:3 survives and is not judged"] * 2,
    ]


def _left(name, kinds, reason=None):
    row = {"file": f"bench/{name}.py", "lines": "1-9", "branches": 0}
    return row | {"kinds": kinds, "reason": reason}


KINDS = """
@made.by
def one(device):
    if device == "cuda":
        start()
    elif device != "cuda":
        go_on()
    else:
        wait()
    try:
        work()
    except OSError as error:
        wait()
    if not device:
        name = device.name
        raise ValueError(name)
    for part in device:
        if part is None:
            continue
        use(
            part
        )
    return part.end
"""


def test_lines_are_told_apart_by_where_they_stand():
    found = {line: kinds.counts(KINDS, [line]) for line in range(2, KINDS.count("\n"))}
    wanted = {kinds.GPU: [5], kinds.ERRORS: [12, 13, 15, 16], kinds.BARE: [19]}
    for kind, lines in wanted.items():
        assert [line for line in found if found[line] == {kind: 1}] == lines
    others = found.keys() - {line for lines in wanted.values() for line in lines}
    assert all(found[line] == {OTHER: 1} for line in others)
    assert kinds.counts(KINDS, [12, 15, 5]) == {kinds.ERRORS: 2, kinds.GPU: 1}


def test_what_is_not_reached_is_shown_by_its_reason():
    row = {"lines": 100, "lines_reached": 94, "branches": 0, "branches_reached": 0}
    left = [
        _left("a", {"a GPU": 1, "other lines": 12}, "a study's own loop"),
        _left("b", {"a GPU": 3}),
        _left("c", {"other lines": 11}),
        _left("d", {"other lines": 10}),
        _left("e", {}),
    ]
    body = {"tests": 1234, "slow_tests": 0, "slow_folders": []} | {
        "packages": {"bench": row, "all": row},
        "files": left,
    }
    record = Record({}, body)
    table = quality.coverage_table(record)
    assert table.startswith("1,234 tests of the quick set:")
    more = body | {"slow_tests": 56, "slow_folders": ["tests/speed", "tests/twins"]}
    said = "1,234 tests of the quick set, and 56 slow ones of `tests/speed`, `tests/twins`:"
    assert quality.coverage_table(Record({}, more)).startswith(said)
    assert "| all | 100 | 94.0% | 0 |  |" in table
    few = "a few lines of a file: inputs, options and systems that these tests do not have"
    assert table.splitlines()[-4:] == [
        "| a study's own loop | 12 | `bench/a.py` (12) |",
        "| not judged | 11 | `bench/c.py` (11) |",
        f"| {few} | 10 | `bench/d.py` (10) |",
        "| a GPU | 4 | `bench/b.py` (3), `bench/a.py` (1) |",
    ]
    many = [_left(str(n), {"a GPU": 1}) for n in range(quality.SHOWN + 2)]
    assert quality.coverage_table(Record({}, body | {"files": many})).endswith(
        " and 2 other files |"
    )
    assert list(quality.broken("coverage", record)) == [
        "94.0% of the lines are reached: expected 95%",
        "bench/c.py: lines 1-9 are left, and it is not said why",
    ]
    body["packages"]["all"] = row | {"lines_reached": 95}
    body["files"] = left[:2]
    assert list(quality.broken("coverage", record)) == []


def test_a_reason_is_given_for_files_that_are_there():
    assert [name for name in UNREACHED if not (ROOT / name).is_file()] == []


def test_bugs_are_shown_with_the_first_test_that_notices():
    row = {"file": "a.py", "line": 3, "before": "x", "after": "y", "quick": "t.py::a", "long": None}
    slow = row | {"quick": "all tests pass", "long": "t.py::slow"}
    record = Record({}, {"quick": 1, "long": 2, "bugs": [row, slow]})
    table = quality.bugs_table(record)
    assert "1 of 2 are noticed by the quick set, 2 by the long one." in table
    assert "| `a.py`, line 3 | `x` → `y` | t.py::a |  |" in table
    assert "| `a.py`, line 3 | `x` → `y` | all tests pass | `t.py::slow` |" in table
    assert list(quality.broken("bugs", record)) == ["the quick set notices 1 of 2"]


def test_the_counts_are_those_of_pytests_last_lines():
    printed = (
        "3 failed in words\n...\n1,230 slow tests were left for the long run: `pytest -m slow`\n"
        "6063 passed, 194 skipped, 1 warning in 462.33s (0:07:42)\n"
    )
    assert times.counts(printed) == {"passed": 6063, "skipped": 194, "left": 1230}
    assert times.counts("") == {"passed": 0, "skipped": 0, "left": 0}


def test_the_long_sets_time_is_that_of_all_its_shares(tmp_path, monkeypatch):
    monkeypatch.setattr(times, "SHARES", 2)
    row = {"passed": 3, "skipped": 1, "left": 7, "seconds": 10.0}
    for name, costs in (("quick", {"a": 1.0}), ("1/2", {"b": 2.0, "c": 9.0})):
        times._path(tmp_path, name).write_text(json.dumps(row | {"costs": costs}))
    record = times.measure(tmp_path, ["quick"])
    assert list(record["sets"]) == ["quick"]
    times._path(tmp_path, "2/2").write_text(json.dumps(row | {"costs": {"d": 4.0}}))
    record = times.measure(tmp_path, ["quick", "2/2"])
    whole = record["sets"]["long"]
    assert (whole["passed"], whole["seconds"], whole["processor_s"]) == (6, 20.0, 15.0)
    assert [one["test"] for one in whole["slowest"]] == ["c", "d", "b"]
    table = quality.times_table(record)
    assert "| quick | 3 | 1 | 7 | 10 s | 1 s |" in table
    assert "| long | 6 | 2 |  | 20 s | 15 s |" in table
    assert "| the most expensive of the long set | of a processor |" in table
    with pytest.raises(ValueError, match="part '3/2': expected quick, or 1/2 to 2/2"):
        times.measure(tmp_path, ["3/2"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["mutants", "--part", "checkpoint"], "part 'checkpoint': expected one of distances"),
        (["coverage", "--slow", "tests/none"], "folder 'tests/none': expected one of tests/cli"),
        (["bugs", "--data", "/dev/null/x"], "cannot write to /dev/null/x: Not a directory; name"),
        (["times", "--json", "/dev/null/x"], "cannot write to /dev/null: File exists; name"),
        (["times", "--part", "11/10"], "part '11/10': expected quick, or 1/10 to 10/10"),
    ],
)
def test_a_part_that_there_is_not_is_refused_in_a_sentence(call, said, capsys):
    assert main(call) == 2
    assert capsys.readouterr().err.startswith(f"quality: {said}")


def test_a_test_that_fails_without_the_bug_too_notices_nothing(tmp_path, monkeypatch):
    class Warm(Runner):
        bug = False

        @contextlib.contextmanager
        def planted(self, mutant):
            self.bug = True
            yield
            self.bug = False

        def test(self, tests, seconds, options=(), write=False):
            failing = ["t.py::anyway", *(["t.py::by_the_bug"] if self.bug and notices else [])]
            failed = next((name for name in tests if name in failing), None)
            return {"status": int(failed is not None), "test": failed}

    tests = ["t.py::anyway", "t.py::passes", "t.py::by_the_bug"]
    reached = SimpleNamespace(durations=dict.fromkeys(tests, 1.0))
    monkeypatch.setattr(bugs, "_reaching", lambda reached, mutant: tests)
    for notices, how in ((True, "t.py::by_the_bug"), (False, "all tests pass")):
        fate = bugs._fate(Warm(tmp_path, tmp_path), [reached], _mutant("one"))
        assert (fate.killed, fate.how, fate.tests) == (notices, how, 2)


def test_a_bug_is_looked_for_by_slow_tests_until_a_folder_of_them_notices_it(monkeypatch):
    asked = []

    def fate(warm, reached, mutant):
        asked.append(reached)
        return Fate(killed=reached == noticing, how="t", tests=2)

    monkeypatch.setattr(bugs, "_fate", fate)
    monkeypatch.setattr(bugs.covered, "reached_by_slow", lambda folder, names: names)
    mutant = replace(_mutant("one"), file="bench/speed/record.py")
    noticing = ["tests/cli"]
    assert bugs._long(ROOT, None, mutant) == Fate(killed=True, how="t", tests=2)
    noticing = []
    assert bugs._long(ROOT, None, mutant) == Fate(killed=False, how="all tests pass", tests=8)
    speed, *rest = ["tests/speed"], ["tests/cli"], ["tests/fuzz"], ["tests/docs"]
    assert asked == [speed, rest[0], speed, *rest]


def test_a_bug_is_looked_for_by_the_tests_of_its_packages_and_by_those_of_all():
    found = bugs._folders(replace(_mutant("one"), file="bench/speed/record.py"))
    assert found == ["tests/speed", "tests/cli", "tests/fuzz", "tests/docs"]


@pytest.mark.parametrize(
    ("file", "line", "outside", "expected"),
    [
        ("twingrad/phrases/notes/saving.py", 3, True, ["own", "tests/phrases/test_b.py::b"]),
        ("twingrad/phrases/notes/saving.py", 9, True, ["line", "tests/phrases/test_b.py::b"]),
        ("twingrad/phrases/notes/saving.py", 9, False, ["line"]),
        ("twingrad/page.py", 3, True, ["own", "tests/twingrad/test_a.py::a"]),
    ],
)
def test_what_is_made_at_import_is_tested_by_all_tests_of_its_package(
    monkeypatch, tmp_path, file, line, outside, expected
):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(SOURCE)
    monkeypatch.setattr(bugs, "ROOT", tmp_path)
    reached = SimpleNamespace(
        durations=dict.fromkeys(["tests/twingrad/test_a.py::a", "tests/phrases/test_b.py::b"], 1.0),
        tests_of_file=lambda _: ["own"],
        tests_of=lambda *_: [],
        is_reached_outside_tests=lambda *_: outside,
    )
    monkeypatch.setattr(runner, "reaching", lambda *_: ["line"])
    mutant = replace(_mutant("one"), file=file, line=line)
    assert list(bugs._reaching(reached, mutant)) == expected


HELPER = """import os, time


def end():
    os._exit(0)


def wait(begun=None):
    print("ready", flush=True)
    if begun:
        begun.set()
    time.sleep(60)
"""
KILLS = """import multiprocessing, os, signal, subprocess, sys
from bench.helper import end, wait


def test_of_a_group():
    call = [sys.executable, "-c", "from bench.helper import wait; wait()"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout.readline() == b"ready\\n"
        os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def test_of_one():
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    child = context.Process(target=wait, args=(begun,))
    child.start()
    begun.wait()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_of_one_that_ends():
    child = multiprocessing.get_context("spawn").Process(target=end)
    child.start()
    child.join()
    assert child.exitcode == 0
"""


@pytest.mark.slow
def test_what_helpers_reach_that_are_killed_or_exit_is_measured(tmp_path):
    pytest.importorskip("coverage", reason="coverage is in the extra `quality`")
    root = tmp_path / "checkout"
    for name in ("bench", "tests"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text("")
    (root / "bench" / "helper.py").write_text(HELPER)
    (root / "tests" / "quality").symlink_to(ROOT / "tests" / "quality")
    (root / "test_kills.py").write_text(KILLS)
    found = reach.measure(root, ["test_kills.py"], tmp_path / "found")
    expected = {"test_kills.py::test_of_a_group", "test_kills.py::test_of_one"}
    assert set(found.tests_of("bench/helper.py", 9)) == expected
    assert found.tests_of("bench/helper.py", 5) == ["test_kills.py::test_of_one_that_ends"]
