"""``twingrad bench`` as it is called: what it refuses, measures, survives and writes down."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.harness import frameworks
from bench.harness.records import ROOT
from bench.speed import benchmark, contestants, scheduler
from bench.speed import record as speed_record
from bench.speed import workloads as kinds

pytestmark = pytest.mark.slow

both = pytest.mark.skipif(
    not all(map(frameworks.installed, frameworks.NAMES)), reason="needs both frameworks"
)
# The least that makes a record with a ratio in it.
OVERHEAD = ("bench", "--device", "cpu", "--workload", "overhead", "--contestants")
TINY = ("bench", "--device", "cpu", "--preset", "tiny", "--batch-size", "2", "--length", "16")


# What is refused.


def refused(capsys, *call: str, code: int = 2) -> str:
    """The one sentence on stderr with which ``call`` is refused."""
    assert main(list(call)) == code
    said = capsys.readouterr()
    assert said.err.startswith("twingrad: ")
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    return said.err


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["--workload", "sleep"], ["'sleep'", "forward-backward"]),
        (["--workload", "train,sleep"], ["'sleep'", "train"]),
        (["--contestants", "keras"], ["'keras'", "torch-tuned"]),
        (["--contestants", "torch,keras"], ["'keras'"]),
        (["--contestants", ","], ["','", "A,B"]),
        (["--contestants", ""], ["''", "A,B"]),
        (["--preset", "125m"], ["'125m'", "124m"]),
        (["--dtype", "float16"], ["'float16'", "bfloat16"]),
        (["--device", "tpu"], ["'tpu'", "cuda"]),
        (["--peer", "nanogpt"], ["'nanogpt'", "NAME=PATH"]),
        (["--peer", "nanogpt="], ["NAME=PATH"]),
        (["--peer", "nanogpt=/nowhere/at/all"], ["nanogpt", "/nowhere/at/all", "does not exist"]),
        (["--peer", "nanogpt=/"], ["nanogpt", "model.py"]),
        (["--peer", "llama=/"], ["'llama'", "nanogpt", "Racer"]),
        (["--peer", "torch-tuned={peer}"], ["torch-tuned"]),
        (["--peer", "jax={peer}"], ["jax"]),
        (["--peer", "a/b={peer}"], ["'a/b'"]),
        (["--budget", "soon"], ["'soon'", "9m"]),
        (["--budget", "0s"], ["'0s'"]),
        (["--budget", "-3m"], ["--budget"]),
        (["--samples", "0"], ["--samples", "1 or more"]),
        (["--starts", "0"], ["--starts", "1 or more"]),
        (["--starts", "2"], ["--starts", "2", "3 and more"]),
        (["--workload", "growth", "--contestants", "hf"], ["hf", "growth", "--workload"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--length", "0"], ["--length"]),
        (["--preset", "tiny", "--length", "129"], ["129", "128", "tiny"]),
        (["--json", "/nowhere/at/all/x.json"], ["/nowhere/at/all", "create"]),
        (["--json", "{tmp}"], ["folder"]),
    ],
    ids=lambda value: " ".join(value),
)
@both
def test_a_wrong_call_is_refused_in_one_sentence(capsys, monkeypatch, tmp_path, call, named):
    monkeypatch.setattr(benchmark.Bench, "measure", lambda self: pytest.fail("it was not refused"))
    peer = tmp_path / "mine.py"
    peer.write_text("class Racer: ...\n")
    given = [word.format(peer=peer, tmp=tmp_path) for word in call]
    out = tmp_path / "record.json"
    extra = [] if "--json" in call else ["--json", str(out)]
    device = [] if "--device" in call else ["--device", "cpu"]
    said = refused(capsys, "bench", *given, *extra, *device)
    for word in named:
        assert word in said
    assert os.listdir(tmp_path) == ["mine.py"]


def test_a_folder_that_cannot_be_written_to_is_refused(capsys, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    said = refused(capsys, "bench", "--device", "cpu", "--json", str(tmp_path / "x.json"))
    assert "no permission" in said


@both
def test_cuda_asked_for_and_absent_is_refused(capsys, monkeypatch, tmp_path):
    there = "there is a CUDA device here"
    monkeypatch.setattr(benchmark.Bench, "measure", lambda self: pytest.skip(there))
    out = tmp_path / "record.json"
    assert "cuda" in refused(capsys, "bench", "--device", "cuda", "--json", str(out))
    assert not out.exists()


def test_a_missing_framework_is_named_with_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(frameworks, "installed", lambda name: name != "jax")
    said = refused(capsys, "bench", "--device", "cpu", "--contestants", "jax")
    assert "pip install 'twingrad[jax]'" in said


# A record, and what is wrong with others.


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The record of a whole call, its path, and what was printed."""
    if not all(map(frameworks.installed, frameworks.NAMES)):
        pytest.skip("needs both frameworks")
    path = tmp_path_factory.mktemp("bench") / "record.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "SMALL_PROGRAMS", ("simple-net",))
        # As many processes as an interval over processes takes.
        call = [*OVERHEAD, "jax-tuned,torch-idiomatic", "--starts", "3", "--json", str(path)]
        assert main(call) == 0
    return path


@pytest.fixture
def record(measured):
    return json.loads(measured.read_text())


def test_a_record_holds(measured, capsys):
    assert main(["bench", "--check", str(measured)]) == 0
    said = capsys.readouterr()
    assert "holds: 2 results, 1 ratios" in said.out
    assert said.out.count("\n") == 1
    assert said.err == ""


def test_a_record_says_what_was_measured(record):
    rows = {row["contestant"]: row for row in record["results"]}
    assert list(rows) == ["jax-tuned", "torch-idiomatic"]
    for row in rows.values():
        assert row["status"] == "timed"
        assert row["parity"]["ok"]
        assert row["parity"]["judged"] > 2
        assert {sample["start"] for sample in row["samples"]} == {0, 1, 2}
        assert len(row["samples"]) >= 3 * benchmark.EACH
        assert row["peak_bytes"] > 1 << 20
    assert {"torch", "jax", "flax", "python"} <= record["environment"]["versions"].keys()
    [ratio] = record["ratios"]
    assert (ratio["numerator"], ratio["denominator"]) == tuple(rows)
    assert record["interrupted"] is False
    assert record["skipped"] == []


def _missing(found):
    del found["results"][0]["parity"]


def _median(found):
    found["results"][0]["median_s"] *= 0.999


def _quartile(found):
    found["results"][1]["quartile_high_s"] *= 1.001


def _ratio(found):
    found["ratios"][0]["ratio"] *= 1.001


def _interval(found):
    found["ratios"][0]["low"] *= 1.001


def _renamed(found):
    found["ratios"][0]["denominator"] = "torch-tuned"


def _sample(found):
    for sample in found["results"][0]["samples"]:
        sample["seconds"] *= 0.5


def _both_kinds_of_sample(found):
    row = found["results"][0]
    for sample in row["samples"]:
        sample["seconds"] *= 0.5
    row["samples_s"] = speed_record.counted(row["samples"], scheduler.QUIET)


def _disturbance(found):
    for sample in found["results"][0]["samples"]:
        sample["others_cores"] = 0.0
    found["results"][0]["samples"][0] |= {"seconds": 1.0, "others_cores": 2.0}


def _uncertified(found):
    found["results"][0]["parity"]["ok"] = False


def _over(found):
    found["results"][0]["parity"]["error_u"] = found["results"][0]["parity"]["limit_u"] * 2


def _no_number(found):
    found["results"][0]["parity"]["error_u"] = float("nan")


def _no_error(found):
    found["results"][0]["parity"]["error_u"] = None


def _no_samples(found):
    found["results"][0] |= {"samples": [], "samples_s": []}


def _untimed(found):
    found["results"][0]["status"] = "failed parity"


def _nothing(found):
    found |= {"results": [], "ratios": []}


def _grown(found):
    one = {"contestant": "a", "axis": "length", "sizes": [1, 2, 4], "median_s": [1.0, 2.0, 4.0]}
    found["growth"] = [one | {"exponent": 1.0, "r_squared": 1.0}]


def _other_schema(found):
    found["schema"] = "twingrad-bench-0"


def _narrow(found):
    found["method"]["covered"] = 0.5


def _not_widened(found):
    found["method"]["spread"] = 0.0


def _quiet(found):
    found["method"]["quiet_cores"] = "quiet"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_missing, ["results/0", "parity"]),
        (_median, ["jax-tuned", "median_s"]),
        (_quartile, ["torch-idiomatic", "quartile_high_s"]),
        (_ratio, ["jax-tuned/torch-idiomatic", "ratio is"]),
        (_interval, ["jax-tuned/torch-idiomatic", "low is"]),
        (_renamed, ["torch-tuned", "not timed"]),
        (_sample, ["jax-tuned", "samples"]),
        (_both_kinds_of_sample, ["jax-tuned", "median_s"]),
        (_disturbance, ["jax-tuned", "samples"]),
        (_uncertified, ["jax-tuned", "certificate failed"]),
        (_over, ["jax-tuned", "over its limit"]),
        (_no_number, ["NaN"]),
        (_no_error, ["parity/error_u"]),
        (_no_samples, ["results/0/samples"]),
        (_untimed, ["jax-tuned", "failed parity"]),
        (_nothing, ["results"]),
        (_grown, ["growth"]),
        (_other_schema, ["schema"]),
        (_quiet, ["quiet_cores"]),
        (_narrow, ["method/covered", "0.5"]),
        (_not_widened, ["method/spread", "0.0"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_edited_record_is_refused(record, tmp_path, capsys, edit, named):
    edit(record)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(record))
    said = refused(capsys, "bench", "--check", str(path), code=1)
    for word in named:
        assert word in said


@pytest.mark.parametrize("content", ["", "no record", '{"schema":', "\xff", None])
def test_what_is_no_record_is_refused(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    said = refused(capsys, "bench", "--check", str(path))
    assert str(path) in said
    assert ("not JSON" if content is not None else "does not exist") in said


@pytest.mark.parametrize("content", ["[" * 100_000, '{"seconds": 1' + "0" * 5000 + "}"])
def test_json_that_python_cannot_read_is_no_record(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    assert "not JSON" in refused(capsys, "bench", "--check", str(path))


@pytest.mark.parametrize("content", ["[]", "{}", "3", "null", '{"results": 3}'])
def test_json_that_is_no_record_does_not_hold(tmp_path, capsys, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    assert "does not hold" in refused(capsys, "bench", "--check", str(path), code=1)


def test_no_value_in_a_record_can_bring_the_check_down(record):
    # Every figure the check reads, replaced by what it is not; one sample a row is enough.
    for row in record["results"]:
        row["samples"], row["samples_s"] = row["samples"][:1], row["samples_s"][:1]
    places = list(_places(record, ()))
    assert len(places) > 80
    for place in places:
        for value in (None, "", "x", -1, 0, 0.5, 1e-300, math.inf, 10**400, [], {}):
            edited = copy.deepcopy(record)
            *way, last = place
            part = edited
            for key in way:
                part = part[key]
            part[last] = value
            list(speed_record.problems(edited))


def _places(value, way):
    # What is in these is shown, never read.
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in items:
        if key in ("about", "state", "clocks", "environment", "asked"):
            continue
        yield (*way, key)
        if isinstance(inner, (dict, list)):
            yield from _places(inner, (*way, key))


# Contestants that do not hold out.

PLAIN = """
import os, signal
{top}
class Racer:
    def __init__(self, job, params):
        {make}
    def put(self, *batch): return batch
    def wait(self, loss): return loss
    def reset(self, params): ...
    def train(self, batch):
        {train}
    def first_step(self, batch): return self.train(batch), {{}}, False
    def state(self): return {{}}
"""
# Ours, but for one percent of one gradient.
WRONG = """
from bench.racers.torch_twin import Loop
class Racer(Loop):
    def gradients(self):
        found = super().gradients()
        name = "ln_f.weight"
        return found | {name: found[name] * 1.01}
"""
PEERS = {
    "greedy": PLAIN.format(top="", make="...", train="raise MemoryError('not enough')"),
    "killed": PLAIN.format(top="", make="...", train="os.kill(os.getpid(), signal.SIGKILL)"),
    "broken": PLAIN.format(top="", make="...", train="raise RuntimeError('no such kernel')"),
    "sleeper": PLAIN.format(top="import time", make="...", train="time.sleep(1000)"),
    "alien": PLAIN.format(top="import no_such_module", make="...", train="..."),
    "missing": PLAIN.format(
        top="open(os.path.dirname(__file__) + '/weights')", make="...", train="..."
    ),
    "unlike": PLAIN.format(top="", make="raise TypeError('other sizes')", train="..."),
    "empty": PLAIN.format(top="", make="...", train="return 5.5"),
    "nan": PLAIN.format(top="", make="...", train="return float('nan')"),
    "wrong": WRONG,
}


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    """The record and exit status of a good contestant among bad ones, and where they lay."""
    if not frameworks.installed("torch"):
        pytest.skip("torch is not installed")
    folder = tmp_path_factory.mktemp("survived")
    path = folder / "record.json"
    call = [*TINY, "--workload", "train", "--samples", "2", "--starts", "1", "--json", str(path)]
    for name, code in PEERS.items():
        (folder / f"{name}.py").write_text(code)
        call += ["--peer", f"{name}={folder / name}.py"]
    names = ["torch-tuned", *(f"{name}-tuned" for name in PEERS)]
    with pytest.MonkeyPatch.context() as patch:
        # Left to a test of their own: ceilings. Left out: torch.compile, and minutes of waiting.
        patch.setattr(benchmark.Bench, "_measure_ceilings", lambda self: None)
        eager = replace(contestants.OURS["torch"], compiled="none")
        patch.setitem(contestants.OURS, "torch", eager)
        patient = scheduler.Entry.ask

        def ask(entry, do, wait_s, **asked):
            return patient(entry, do, 2.0 if entry.label == "sleeper-tuned" else wait_s, **asked)

        patch.setattr(scheduler.Entry, "ask", ask)
        code = main([*call, "--contestants", ",".join(names)])
    return code, path


@pytest.fixture
def rows(survived):
    found = json.loads(survived[1].read_text())
    return {row["contestant"].removesuffix("-tuned"): row for row in found["results"]}


def test_the_exit_status_says_that_not_all_were_timed(survived):
    assert survived[0] == 1


def test_a_good_contestant_is_timed_among_bad_ones(rows):
    assert list(rows) == ["torch", *PEERS]
    assert rows["torch"]["status"] == "timed"
    assert len(rows["torch"]["samples"]) >= 2
    assert rows["torch"]["parity"]["ok"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("greedy", "out of memory"),
        ("killed", "killed, as the kernel does when memory runs out"),
        ("broken", "RuntimeError: no such kernel"),
        ("sleeper", "hung: no answer to 'ready' in 2 s"),
        ("alien", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("missing", "FileNotFoundError: [Errno 2] No such file or directory: '.../weights'"),
        ("unlike", "TypeError: other sizes"),
        ("empty", "failed parity"),
        ("nan", "failed parity"),
        ("wrong", "failed parity"),
    ],
)
def test_what_became_of_a_bad_contestant_is_in_the_record(rows, name, said):
    assert rows[name]["status"].startswith(said)
    assert rows[name]["parity"]["ok"] is False


def test_what_failed_is_not_timed(rows):
    for name in PEERS:
        assert rows[name]["samples"] == rows[name]["samples_s"] == []
        assert "median_s" not in rows[name]


def test_one_percent_of_one_gradient_fails_parity(rows):
    parity = rows["wrong"]["parity"]
    assert parity["worst"] == "ln_f.weight"
    assert parity["error_u"] > parity["limit_u"]


def test_the_record_of_the_survivors_holds(survived, capsys):
    _, path = survived
    assert main(["bench", "--check", str(path)]) == 0
    assert f"1 results, {len(PEERS)} without a time" in capsys.readouterr().out


def test_where_peers_lay_is_in_no_record(survived):
    assert str(survived[1].parent) not in survived[1].read_text()


# Ctrl-C.


def _workers(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[1] == str(parent) and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _runs(worker: int) -> bool:
    try:
        return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(tmp_path, capsys):
    if not frameworks.installed("jax"):
        pytest.skip("jax is not installed")
    path = tmp_path / "record.json"
    call = [*OVERHEAD, "jax-tuned", "--samples", "1", "--starts", "1", "--json", str(path)]
    # What a shell starts in the background ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    started = subprocess.Popen(
        [sys.executable, "-m", "bench", *call],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    with started as bench:
        deadline = time.monotonic() + 60
        # The first stage is written down, and the second is under way.
        while not (path.exists() and (workers := _workers(bench.pid))):
            assert bench.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        bench.send_signal(signal.SIGINT)
        said, errors = bench.communicate(timeout=30)
    assert bench.returncode == 130
    assert "Traceback" not in errors
    assert "what was measured until then is kept" in said
    # One that was being started then finds its pipe closed, and ends.
    deadline = time.monotonic() + 30
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found = json.loads(path.read_text())
    assert found["interrupted"] is True
    assert [row["preset"] for row in found["results"]] == [kinds.SMALL_PROGRAMS[0]]
    assert found["results"][0]["status"] == "timed"
    assert main(["bench", "--check", str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path]


@both
def test_a_budget_too_small_for_anything_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark.Bench, "elapsed", lambda self: 5.0)
    path = tmp_path / "record.json"
    call = [*OVERHEAD, "jax-tuned", "--budget", "5s", "--json", str(path)]
    assert main(call) == 1
    found = json.loads(path.read_text())
    assert found["results"] == []
    assert [one["stage"] for one in found["skipped"]] == list(kinds.SMALL_PROGRAMS)
    assert '"ok": false' in capsys.readouterr().out
