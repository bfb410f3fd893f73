"""Fixtures of the benchmark's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.speed import messages, scheduler
from bench.speed.backends.backend import Job, write_batches
from bench.speed.benchmark import Bench
from bench.speed.contestants import CHECKOUT, Contestant
from bench.speed.options import BenchOptions
from bench.speed.results import Parity
from bench.speed.scheduler import WorkerHandle
from bench.speed.workloads import OPTIMIZER

BACKEND = """
import os, signal, subprocess, sys, time
{top}
class Racer:
    def __init__(self, job, params): ...
    def put(self, *batch): return batch
    def wait(self, loss): return loss
    def train(self, batch):
        {train}
"""


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Makes a benchmark on the CPU by its options."""

    def make(**options) -> Bench:
        return Bench(BenchOptions(**{"device": "cpu"} | options))

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WorkerHandle]]:
    """Starts a contestant whose ``train`` is this code; every process is ended afterwards."""
    workers: list[WorkerHandle] = []

    def make(train: str, top: str = "") -> WorkerHandle:
        path = tmp_path / "fake.py"
        path.write_text(BACKEND.format(top=top, train=train))
        contestant = Contestant(name="fake", framework="torch", backend=CHECKOUT, path=str(path))
        worker = WorkerHandle(contestant=contestant)
        worker.start(folder)
        workers.append(worker)
        return worker

    with scheduler.temporary_folder(workers) as folder:
        yield make
    assert all(worker.process.child.returncode is not None for worker in workers)


@pytest.fixture
def parity() -> Callable[..., Parity]:
    """Makes a parity check with this error of a limit of 4 u."""

    def make(error: float, ok: bool = True) -> Parity:
        return Parity(ok=ok, judged=3, worst="loss", error_u=error, limit_u=4.0)

    return make


@pytest.fixture
def readiness(parity) -> Callable[..., messages.Readiness]:
    """Makes the readiness of a worker whose parity check has this error."""

    def make(error: float = 1.0, ok: bool = True, first_s: float = 2.0, step_s: float = 1.0):
        return messages.Readiness(
            first_s=first_s,
            step_s=step_s,
            peak=messages.Peak(host=1 << 30),
            parity=parity(error, ok),
        )

    return make


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., messages.Timed]:
    """Makes a worker's model and has it train for two steps."""
    save_file({"w": np.ones(2)}, tmp_path / "params")
    (tmp_path / "reference.json").write_text("{}")
    write_batches(tmp_path / "batches", [(np.zeros((1, 1)), np.zeros((1, 1)))])

    def run(worker: WorkerHandle, wait_s: float = 30.0) -> messages.Timed:
        job = Job(
            contestant=worker.contestant,
            optimizer=OPTIMIZER,
            batch_size=1,
            length=1,
            dtype="float32",
            device="cpu",
        )
        params, batches = str(tmp_path / "params"), str(tmp_path / "batches")
        worker.ask(messages.Make(job, params, batches, str(tmp_path)), 30.0)
        return worker.ask(messages.TimeSteps(messages.Task("train"), 2), wait_s)

    return run
