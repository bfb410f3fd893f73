"""Claims of the places where a comparison's halves are computed: same numbers, no orphans."""

import dataclasses
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from bench.harness.frameworks import Frameworks, agreed_device
from bench.harness.side_process import SideProcess
from bench.parity import command, places, tasks
from bench.parity.options import CompareOptions
from bench.parity.places import Here, JaxBeside, Place
from bench.parity.program_runs import UnexpectedDtype
from bench.parity.tasks import Task, TaskResult
from tests.helpers import functions
from twingrad.outcome import outcome_object
from twingrad.terminal import silent

ROOT = Path(__file__).parents[2]


def _record(result: TaskResult) -> object:
    """Everything that a task says, but for how long it took."""
    outcomes = [dataclasses.replace(outcome, seconds=0.0) for outcome in result.outcomes]
    objects = [outcome_object(outcome) for outcome in outcomes]
    return objects, [outcome.settings for outcome in outcomes], result.demonstrations.as_object()


@pytest.mark.slow("simple-net")
@pytest.mark.parametrize("name", ["sigmoid-bce", "simple-net"])
def test_numbers_and_settings_are_the_same_with_jax_beside(
    frameworks: Frameworks, name: str
) -> None:
    task = Task(make=functions.Make(name), dtypes=("float64", "float32"), device="cpu", keep=True)
    here = tasks.run_task(task, frameworks, Here(), silent, detailed=False)
    with places.jax_beside() as place:
        assert isinstance(place, JaxBeside)
        beside = tasks.run_task(task, frameworks, place, silent, detailed=False)
    assert _record(here) == _record(beside)
    for framework in frameworks:
        one, other = (result.observed[framework.name] for result in (here, beside))
        assert pickle.dumps(one.gradients) == pickle.dumps(other.gradients)


def test_devices_and_versions_are_asked_where_the_framework_is(frameworks: Frameworks) -> None:
    with places.jax_beside() as place:
        for ask in (command.devices, command.versions):
            assert places.in_each(place, frameworks, ask) == places.in_each(Here(), frameworks, ask)


@pytest.fixture(scope="module")
def process() -> Iterator[SideProcess]:
    """A process that imports nothing first."""
    with SideProcess(()) as started:
        yield started


def test_calls_are_made_in_another_process(process: SideProcess) -> None:
    assert process.call(os.getpid) != os.getpid()
    assert process.call(math.gcd, 12, 18) == 6


def test_an_error_there_is_the_same_error_here(process: SideProcess) -> None:
    with pytest.raises(ValueError, match="math domain error") as caught:
        process.call(math.sqrt, -1)
    assert str(caught.value) == "math domain error"
    assert "side_process.py" in caught.value.__notes__[0]  # where it was raised
    with pytest.raises(UnexpectedDtype, match="JAX computed in float16"):
        process.call(functions.unexpected_dtype, "JAX computed in float16")
    assert process.call(math.gcd, 12, 18) == 6


def test_an_error_that_cannot_be_sent_arrives_as_its_text(process: SideProcess) -> None:
    with pytest.raises(RuntimeError, match="Unsendable: of 3 and 4"):
        process.call(functions.unsendable)
    with pytest.raises(RuntimeError, match="pickle"):
        process.call(functions.unsendable_value)
    assert process.call(math.gcd, 12, 18) == 6


def test_a_process_that_ends_by_itself_is_told_in_one_sentence() -> None:
    with SideProcess(()) as process, pytest.raises(ValueError, match="ended with status 3"):
        process.call(functions.exit_at_once, 3)
    with SideProcess(()) as process, pytest.raises(ValueError, match="signal 9: free some memory"):
        process.call(functions.end_by, signal.SIGKILL)


def test_a_module_that_cannot_be_imported_is_told_at_the_first_call() -> None:
    with SideProcess(("nowhere",)) as process, pytest.raises(ModuleNotFoundError, match="nowhere"):
        process.call(os.getpid)


def test_the_end_of_the_context_does_not_wait_for_a_call() -> None:
    started = time.monotonic()
    with SideProcess(()) as process:
        pid = process.call(os.getpid)
        process._connection.send((time.sleep, (60,)))
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


BUSY = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
from bench.harness.side_process import SideProcess
with SideProcess(()) as process:
    print(process.call(os.getpid), flush=True)
    threading.Thread(target=process.call, args=(time.sleep, 60), daemon=True).start()
    time.sleep(0.2)
    print("busy", flush=True)
    time.sleep(60)
"""


WORKERS = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from bench.parity import places
with places.workers() as place:
    print(place.pool.submit(os.getpid).result(), flush=True)
    running = [place.pool.submit(time.sleep, 60) for _ in range(2)]
    time.sleep(0.2)
    print("busy", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("code", [BUSY, WORKERS], ids=["beside", "workers"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_the_first_one_ends(code: str, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip().isdigit()
    assert parent.stdout.readline() == b"busy\n"
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal does
    else:
        parent.send_signal(number)
    parent.communicate(timeout=40)  # both pipes are closed: every process that it started has them
    assert parent.returncode != 0


def _names(monkeypatch: pytest.MonkeyPatch, *, pays: bool, **options: object) -> object:
    for name in ("jax_beside", "workers"):
        monkeypatch.setattr(places, name, lambda name=name: nullcontext(name))
    monkeypatch.setattr(places, "another_pays", lambda: pays)
    with tasks.place_for(CompareOptions(**options)) as place:
        return place


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"program": "simple-net"}, "jax_beside"),
        ({"program": "gpt2", "preset": "tiny"}, "jax_beside"),
        ({"program": "gpt2", "preset": "124m"}, Here()),  # half a gigabyte of gradients a pass
        ({"program": "gpt2", "weights": Path("folder")}, Here()),
        ({"program": "tensors"}, Here()),
        ({"program": "gpt2"}, "workers"),
        ({}, "workers"),
    ],
)
def test_the_place_is_chosen_by_what_is_compared(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], place: Place | str
) -> None:
    assert _names(monkeypatch, pays=True, **options) == place
    assert _names(monkeypatch, pays=False, **options) == Here()


def test_another_process_does_not_pay_where_jax_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setitem(sys.modules, "jax", sys)
    assert not places.another_pays()
    monkeypatch.delitem(sys.modules, "jax")
    assert places.another_pays()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert not places.another_pays()


def test_workers_are_ended_where_the_programs_run_on_a_gpu() -> None:
    with places.workers() as place:
        assert places.settled(place, "cpu") is place
        assert places.settled(place, "cuda") == Here()
        assert isinstance(place, places.Workers)
        with pytest.raises(RuntimeError, match="after shutdown"):
            place.pool.submit(os.getpid)


def test_a_worker_that_ends_by_itself_is_told_in_one_sentence(
    frameworks: Frameworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system ends one where memory runs out."""
    monkeypatch.setattr(tasks, "_run_in_worker", functions.end_at_once)
    task = Task(make=functions.Make("simple-net"), dtypes=("float64",), device="cpu")
    with places.workers() as place:
        for _ in range(2):  # nor does the other one answer then
            with pytest.raises(ValueError, match="free some memory, or compare"):
                list(tasks.run_all([task], frameworks, place, silent))


def test_no_device_is_asked_for_where_the_cpu_is_named() -> None:
    def seen() -> dict[str, list[str]]:
        raise AssertionError("asked")

    assert agreed_device("cpu", seen) == "cpu"
    with pytest.raises(ValueError, match="jax sees no cuda device here"):
        agreed_device("cuda", lambda: {"torch": ["cpu", "cuda"], "jax": ["cpu"]})


CALL = """
import sys
from bench.cli.main import main
status = main(["compare", "sigmoid-bce", "--device", "cuda"])
print(status, "jax" in sys.modules)
"""


def test_a_refusal_is_one_sentence_and_jax_stays_out_of_this_process(
    frameworks: Frameworks,
) -> None:
    if any("cuda" in framework.runtime.devices() for framework in frameworks):
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, "-c", CALL], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("twingrad: torch and jax see no cuda device here")
    assert len(done.stderr.splitlines()) == 1
    beside = (os.cpu_count() or 1) > 1
    assert done.stdout.split() == ["2", str(not beside)]
