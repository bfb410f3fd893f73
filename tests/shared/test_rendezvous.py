"""Processes that meet, watch one another, stop together and fail together; no framework is needed.

Each test starts real processes, with shorter limits than
a training has.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared import rendezvous
from shared.rendezvous import token
from shared.world import World

ROOT = Path(__file__).parents[2]
SIZE = 3
TOKEN = "0123456789abcdef"
MESSAGES = 1000

# Steps that no process ends before all have begun it, as those of a training are.
PROCESS = """
import json, os, signal, sys, time
from shared.rendezvous import Limits, meet
from shared.world import World

asked = json.loads(sys.argv[1])
rank, size, folder = asked["rank"], asked["size"], asked["folder"]
limits = Limits(beat=0.1, silence=asked["silence"], patience=asked["patience"], grace=0.5)
interrupted = []
signal.signal(signal.SIGTERM, lambda *_: interrupted.append(True))

def all_have_begun(step):
    with open(f"{folder}/{rank}", "a") as file:
        file.write(".")
    places = [f"{folder}/{other}" for other in range(size)]
    while not all(os.path.exists(p) and os.path.getsize(p) >= step for p in places):
        time.sleep(0.001)

try:
    world = World(rank=rank, size=size, port=asked["port"])
    token = lambda: asked["token"]
    run = meet(world, asked["facts"], token, problem=asked["problem"], limits=limits, addresses=2)
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
with run.end_all_on_error():
    for step in range(1, asked["steps"] + 1):
        if asked["before"] == step:
            exec(asked["do"])
        run.begin(step)
        if asked["within"] == step:
            exec(asked["do"])
        all_have_begun(step)
        if rank == 0 and step == 2:
            run.keep("runs/x/step-000002")
        if run.ends_after(step, bool(interrupted)):
            break
run.leave()
print(step, run.checkpoint, len(set(run.addresses)))
"""


@pytest.fixture
def begin(tmp_path):
    """Starts processes, and leaves none behind."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = []

    def start(rank: int, **asked) -> subprocess.Popen:
        given = {"rank": rank, "size": SIZE, "port": port, "folder": str(tmp_path)}
        given |= {"facts": {}, "problem": None, "steps": 10**6, "before": 0, "within": 0, "do": ""}
        given |= {"silence": 2, "patience": 20, "token": TOKEN}
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, json.dumps(given | asked)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _wait_for_step(folder: Path, step: int) -> None:
    """Until every process has begun ``step``."""
    places = [folder / str(rank) for rank in range(SIZE)]
    deadline = time.monotonic() + 30
    while not all(place.exists() and place.stat().st_size >= step for place in places):
        assert time.monotonic() < deadline, "the processes did not begin"
        time.sleep(0.01)


def _ends(process: subprocess.Popen, status: int) -> str:
    """What ``process`` says in one line on stderr before it ends with ``status``."""
    out, said = process.communicate(timeout=30)
    assert process.returncode == status, (out, said)
    assert said.count("\n") == 1, said
    return said


# Beginning


def test_all_steps_are_taken_and_all_say_goodbye(begin):
    processes = [begin(rank, steps=20) for rank in range(SIZE)]
    for process in processes:
        assert process.communicate(timeout=30) == ("20 runs/x/step-000002 2\n", "")
        assert process.returncode == 0


@pytest.mark.slow
def test_who_comes_long_after_the_others_is_waited_for(begin):
    processes = [begin(rank, steps=20) for rank in range(SIZE - 1)]
    time.sleep(3)  # longer than anybody may be silent once all are there
    processes.append(begin(SIZE - 1, steps=20))
    for process in processes:
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == 0


ADVANCING = "for _ in range(20): time.sleep(0.1); run.advance()"


@pytest.mark.slow("before")
@pytest.mark.parametrize("place", ["before", "within"])
def test_progress_within_a_step_is_not_a_hang(begin, place):
    asked = {"steps": 9, "patience": 0.7}
    processes = [begin(0, **asked, **{place: 4}, do=ADVANCING)]
    processes += [begin(rank, **asked) for rank in range(1, SIZE)]
    for process in processes:
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == 0


@pytest.mark.slow("before")
@pytest.mark.parametrize("place", ["before", "within"])
def test_one_that_only_says_where_it_is_does(begin, place):
    asked = {"steps": 9, "patience": 0.7}
    processes = [begin(0, **asked, **{place: 4}, do=ADVANCING.replace("run.advance()", "..."))]
    processes += [begin(rank, **asked) for rank in range(1, SIZE)]
    for process in processes:
        process.communicate(timeout=30)
        assert process.returncode == 1


def test_a_meeting_of_one_needs_nobody():
    alone = rendezvous.meet(World(), {"batch_size": 8}, str)
    alone.begin(1)
    assert not alone.ends_after(1, asked=False)
    assert alone.ends_after(1, asked=True)
    alone.keep("runs/x/step-000001")
    alone.leave()
    with pytest.raises(RuntimeError, match="as it is"), alone.end_all_on_error():
        raise RuntimeError("as it is")
    with pytest.raises(ValueError, match="no data"):
        rendezvous.meet(World(), {}, str, problem="no data")


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [("batch_size", 16, 8), ("code", "3f2a", "91bc"), ("data", "d41d", "e9b0"), ("init", None, 1)],
)
@pytest.mark.attack("network")
def test_a_process_that_was_started_otherwise_is_named_everywhere(begin, name, ours, theirs):
    facts = {"seed": 0, name: ours}
    processes = [begin(0, facts=facts), begin(1, facts=facts)]
    processes += [begin(2, facts={"seed": 0, name: theirs})]
    host = socket.gethostname()
    for process in processes:
        assert _ends(process, 2).startswith(
            f"rank 2 on host {host} was started with {name} {theirs}, rank 0 with {ours}: "
        )


def test_another_number_of_processes_is_named(begin):
    processes = [begin(0), begin(1), begin(2, size=4)]
    for process in processes:
        assert "was started with processes 4, rank 0 with 3" in _ends(process, 2)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_cannot_begin_says_why_to_all(begin, rank):
    problems = {rank: "corpus.txt does not exist"}
    processes = [begin(i, problem=problems.get(i)) for i in range(SIZE)]
    for process in processes:
        assert f"rank {rank} on host" in (said := _ends(process, 2))
        assert "corpus.txt does not exist" in said


def test_an_absent_process_is_named_in_time(begin):
    began = time.monotonic()
    processes = [begin(rank, patience=1.5) for rank in (0, 1)]
    for process in processes:
        assert "of 3 processes, rank 2 did not come to 127.0.0.1:" in _ends(process, 2)
    assert time.monotonic() - began > 1.5


def test_an_absent_rank_0_is_named_in_time(begin):
    assert "rank 1 did not meet rank 0 at 127.0.0.1:" in _ends(begin(1, patience=1), 2)


@pytest.mark.attack("network")
def test_a_rank_given_twice_is_refused(begin):
    processes = [begin(0), begin(1), begin(1)]
    for process in processes:
        assert "rank 1 came twice, the second time from host" in _ends(process, 2)


def test_a_port_that_is_taken_is_named(begin):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _ends(begin(0, port=port), 2)
    assert f"rank 0 cannot be met at port {port}: Address already in use" in said


def _visit(port: int, *messages: bytes) -> socket.socket:
    """Connect to ``port`` as soon as somebody listens there, and send ``messages``."""
    deadline = time.monotonic() + 30
    while True:
        try:
            stranger = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with contextlib.suppress(ConnectionError):  # dropped before the last
        for message in messages:
            stranger.sendall(message)
    return stranger


@pytest.mark.attack("network")
def test_strangers_at_the_port_are_left_alone(begin):
    processes = [begin(rank, steps=5) for rank in (0, 1)]
    port = json.loads(processes[0].args[-1])["port"]
    contents = (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"{}\n", b"\xff" * 70_000, b"")
    strangers = [_visit(port, content) for content in contents]
    processes.append(begin(2, steps=5))
    for process in processes:
        out, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, ""), out
    for stranger in strangers:
        stranger.close()


def _mutated(random: np.random.Generator, message: dict) -> bytes:
    """``message`` with another value, without one of its names, or with bytes exchanged."""
    message = dict(message)
    name = str(random.choice(sorted(message)))
    values = (None, -1, 0, 1, 2, 1e300, "", "\x1b[31m", "\ud800", [], {}, "9" * 5000, TOKEN[:-1])
    kind = random.integers(3)
    if kind == 0:
        message[name] = values[random.integers(len(values))]
    elif kind == 1:
        del message[name]
    line = bytearray(json.dumps(message).encode() + b"\n")
    if kind == 2:
        line[random.integers(len(line))] = random.integers(256)
    return bytes(line)


@pytest.mark.attack("network")
def test_a_thousand_messages_of_who_does_not_know_the_token_change_nothing(begin, record_property):
    """Those that processes send, at the beginning and later, whole and changed."""
    record_property("attacks", MESSAGES)
    processes = [begin(rank, steps=5) for rank in (0, 1)]
    port = json.loads(processes[0].args[-1])["port"]
    hello = {"token": "?" * len(TOKEN), "rank": 2, "host": "elsewhere"}
    hello |= {"facts": {"processes": SIZE}, "problem": None}
    kinds = [hello, hello | {"problem": "give up"}, {"end": "the end"}, {"stop": True}]
    kinds += [{"last": 1}, {"step": 9, "advanced": 0, "place": "x"}, {"bye": True}]
    kinds += [{"welcome": [], "host": "x"}, {"refused": "go"}, {"kept": "/nowhere"}]
    random = np.random.default_rng(0)
    open_ones = []
    for number in range(MESSAGES):
        stranger = _visit(port, _mutated(random, kinds[number % len(kinds)]))
        if number % 3:
            stranger.close()
        else:
            open_ones.append(stranger)
    processes.append(begin(2, steps=5))
    for process in processes:
        assert process.communicate(timeout=30) == ("5 runs/x/step-000002 2\n", "")
        assert process.returncode == 0
    for stranger in open_ones:
        stranger.close()


@pytest.mark.attack("network")
def test_a_process_with_another_token_is_not_let_in(begin):
    processes = [begin(0, patience=2), begin(1, patience=2), begin(2, patience=2, token="guessed")]
    for process in processes[:2]:
        assert "of 3 processes, rank 2 did not come" in _ends(process, 2)
    assert "who answered did not take the token of this run" in _ends(processes[2], 2)


@pytest.mark.attack("network")
def test_nobody_gets_in_once_all_are_there(begin, tmp_path):
    processes = [begin(rank) for rank in range(SIZE)]
    _wait_for_step(tmp_path, 5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", json.loads(processes[0].args[-1])["port"]))


# The token


def test_a_given_token_is_used_and_nothing_written(tmp_path):
    for rank in (0, 1):
        with token.agreed(tmp_path / "run", rank, {token.VARIABLE: "given"}) as known:
            assert known() == "given"
            assert not list(tmp_path.iterdir())


@pytest.mark.attack("network")
def test_rank_0_writes_a_private_token_that_the_others_read_and_that_is_gone_afterwards(tmp_path):
    out = tmp_path / "runs" / "mine"
    with token.agreed(out, 1, {}) as theirs:
        with pytest.raises(OSError, match="rank 0 has written no token to"):
            theirs()
        with token.agreed(out, 0, {}) as ours:
            assert len(ours()) == 64
            assert theirs() == ours()
            (file,) = out.parent.iterdir()
            assert file.stat().st_mode & 0o777 == 0o600
        with token.agreed(out, 0, {}) as again:
            assert theirs() == again() != ours()
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("spoil", ["open", "link"])
@pytest.mark.attack("network")
def test_a_token_that_others_may_have_written_is_refused(tmp_path, spoil):
    file = tmp_path / ".mine.token"
    if spoil == "open":
        file.write_text("known to all")
        file.chmod(0o644)
    else:
        (tmp_path / "elsewhere").write_text("x")
        file.symlink_to(tmp_path / "elsewhere")
    with (
        token.agreed(tmp_path / "mine", 1, {}) as known,
        pytest.raises((ValueError, OSError), match=r"read by others|symbolic links"),
    ):
        known()
    with (
        token.agreed(tmp_path / "mine", 0, {}) as ours,
        token.agreed(tmp_path / "mine", 1, {}) as o,
    ):
        assert o() == ours()


# Ending


@pytest.mark.parametrize("rank", range(SIZE))
@pytest.mark.attack("processes")
def test_a_killed_process_is_named_by_all_others_at_once(begin, tmp_path, rank):
    silence = 30  # what the others would wait if its end were not noticed
    processes = [begin(i, silence=silence) for i in range(SIZE)]
    _wait_for_step(tmp_path, 20)
    processes[rank].kill()
    killed = time.monotonic()
    for other in set(processes) - {processes[rank]}:
        said = _ends(other, 1)
        assert said.startswith(f"rank {rank} on host {socket.gethostname()} died in step ")
        assert said.endswith("; the newest whole checkpoint is runs/x/step-000002\n")
    assert time.monotonic() - killed < silence


@pytest.mark.slow("2")
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.attack("processes")
def test_a_stopped_process_is_named_by_all_others(begin, tmp_path, rank):
    processes = [begin(i) for i in range(SIZE)]
    _wait_for_step(tmp_path, 20)
    processes[rank].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    for other in set(processes) - {processes[rank]}:
        assert f"rank {rank} on host {socket.gethostname()} was not heard of for 2 s" in _ends(
            other, 1
        )
    assert time.monotonic() - stopped > 1
    # Woken up, it learns that the others are gone, and ends too.
    processes[rank].send_signal(signal.SIGCONT)
    assert "rank" in _ends(processes[rank], 1)


@pytest.mark.slow("1")
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.attack("processes")
def test_a_process_behind_is_named_with_its_line(begin, rank):
    hangs = {rank: {"before": 9, "do": "time.sleep(60)"}}
    processes = [begin(i, patience=1.5, **hangs.get(i, {})) for i in range(SIZE)]
    for process in processes:
        said = _ends(process, 1)
        assert f"rank {rank} on host {socket.gethostname()} has been behind for 1.5 s" in said
        assert "in step 8, at <string>:1, while rank" in said
        assert "waits in step 9" in said


@pytest.mark.slow
@pytest.mark.attack("processes")
def test_where_all_are_is_said_when_none_gets_further(begin):
    hangs = {1: {"within": 9, "do": "time.sleep(60)"}}
    processes = [begin(i, patience=1.5, **hangs.get(i, {})) for i in range(SIZE)]
    for process in processes:
        said = _ends(process, 1)
        assert "no process came to the end of step 9" in said
        assert "rank 1 at <string>:1" in said


@pytest.mark.parametrize("rank", [0, 2])
def test_an_error_of_one_process_is_said_by_all(begin, rank):
    full = {rank: {"within": 9, "do": "raise ValueError('no space left: free some')"}}
    processes = [begin(i, **full.get(i, {})) for i in range(SIZE)]
    for process in processes:
        said = _ends(process, 1)
        assert f"rank {rank} on host {socket.gethostname()}, in step 9: no space left" in said
        assert "runs/x/step-000002" in said


def test_an_error_that_is_no_sentence_keeps_its_traceback(begin):
    wrong = {1: {"within": 9, "do": "1 / 0"}}
    processes = [begin(i, silence=0.5, **wrong.get(i, {})) for i in range(SIZE)]
    for process in (processes[0], processes[2]):
        assert "in step 9: ZeroDivisionError: division by zero" in _ends(process, 1)
    said = processes[1].communicate(timeout=30)[1]
    assert processes[1].returncode == 1
    assert "Traceback" in said
    assert "ZeroDivisionError" in said.splitlines()[-1]


@pytest.mark.parametrize("ranks", [(0,), (2,), (0, 1, 2)])
def test_all_stop_after_the_same_step_whoever_was_asked_to(begin, tmp_path, ranks):
    processes = [begin(i) for i in range(SIZE)]
    _wait_for_step(tmp_path, 20)
    for rank in ranks:
        os.kill(processes[rank].pid, signal.SIGTERM)
    said = {process.communicate(timeout=30) for process in processes}
    assert [process.returncode for process in processes] == [0] * SIZE, said
    assert len(said) == 1, "they stopped after different steps"
