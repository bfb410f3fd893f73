"""One contestant's process: ``python -m bench.speed.worker FD`` answers requests over a socket.

It loads the contestant's framework alone, does what it is asked to, and reports how long that took
and how busy the machine was with anything else. Whatever libraries print goes to stderr.
"""

import ctypes
import gc
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from safetensors.numpy import load_file

from bench.harness import frameworks
from bench.harness.machine import Load
from bench.speed import reference
from bench.speed.backends import backend
from bench.speed.backends.backend import Backend, Scanning
from bench.speed.foreign import Batch
from bench.speed.json_form import Json
from bench.speed.messages import (
    ComputeFirstLoss,
    ComputeReference,
    FirstLoss,
    JudgeBy,
    Make,
    MeasureCeilings,
    Peak,
    Readiness,
    Ready,
    ReportState,
    Task,
    Timed,
    TimeSteps,
    WorkerError,
)
from bench.speed.reference import Judge, Judged, parity_check
from bench.speed.results import Ceiling
from twingrad import lifeline

_LIBRARIES = re.compile(
    r"/(lib(?:cudnn|cublas|nccl|mkl|dnnl|gomp|iomp|openblas|torch_c|tcmalloc|jemalloc)[^/\s]*\.so[.\d]*)$"
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str] | None = None) -> int:
    """Answer until the other end is closed."""
    arguments = sys.argv[1:] if argv is None else argv
    if argv is None:
        lifeline.end_with_parent(lifeline.end_with_group)
    pipe = Connection(int(arguments[0]))
    os.dup2(2, 1)  # what libraries print must not look like an answer of the command's
    _die_first()
    _die_with_parent()
    worker = Worker()
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return 0
        try:
            answer = getattr(worker, request.name)(request)
        except MemoryError as error:
            answer = WorkerError("out of memory", str(error))
        except Exception as error:
            traceback.print_exc()
            answer = WorkerError(_reason(error), traceback.format_exc(limit=-3))
        pipe.send(answer)


def _reason(error: Exception) -> str:
    text = str(error)
    memory = ("out of memory", "OutOfMemory", "RESOURCE_EXHAUSTED", "can't allocate memory")
    if any(word in text or word in type(error).__name__ for word in memory):
        return "out of memory"
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}"[:300]


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it has ended, however it did."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _die_first() -> None:
    """Ask the kernel to end this process, not the one that started it, when memory is short."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class Worker:
    """The contestant, its batches, and the reference that it is judged by."""

    def __init__(self) -> None:
        self.load, self.begun = Load(), time.perf_counter()
        self.pristine = True

    def make(self, request: Make) -> None:
        """Build the model from the parameters in a file."""
        self.job = request.job
        # The path alone: parameters in memory to judge by are not the contestant's.
        self.params = request.params
        self.backend: Backend = backend.make(self.job, load_file(request.params))
        self.batches: list[Batch] = [
            self.backend.put(*batch) for batch in backend.read_batches(request.batches)
        ]
        self.stream: Iterator[Batch] = cycle(self.batches)
        self.judge = Judge(Path(request.reference), self.job.dtype)
        self._forget_peak()

    def ready(self, request: Ready) -> Readiness:
        """Warm a workload up, note its memory, and check what it computes."""
        at_once = self._at_once(request.task)
        call = self._call(request.task, at_once)
        first, *others = (_seconds(call) for _ in range(3))
        each = min(others) / at_once
        first -= min(others) - each  # beside what is compiled it counts as one step
        # Afterwards the process has held what it was judged by, too.
        peak = self._peak() if self.pristine else Peak()
        self.pristine = False
        parity = parity_check(self._judged(request.task))
        return Readiness(first_s=first, step_s=each, peak=peak, parity=parity)

    def time(self, request: TimeSteps) -> Timed:
        """Seconds a step, and how many cores others kept busy meanwhile."""
        at_once = self._at_once(request.task)
        steps = -(-request.steps // at_once) * at_once
        call = self._call(request.task, steps)
        gc.collect()
        gc.disable()
        try:
            load = Load()
            seconds = _seconds(call)
            others = load.others(seconds)
        finally:
            gc.enable()
        return Timed(seconds / steps, others)

    def first(self, request: ComputeFirstLoss) -> FirstLoss:
        """The first loss of a process that has just begun, and whether it is right."""
        loss = self.backend.wait(self.backend.forward_backward(self.batches[0]))
        others = self.load.others(time.perf_counter() - self.begun)
        return FirstLoss(others, parity_check(self.judge.losses([loss])))

    def judge_by(self, request: JudgeBy) -> None:
        """Take another reference to be judged by from here on."""
        self.judge = Judge(Path(request.reference), self.job.dtype)

    def state(self, request: ReportState) -> Json:
        """Settings, versions, attention kernel, and the numeric libraries that are loaded."""
        maps = Path("/proc/self/maps")
        lines = maps.read_text().splitlines() if maps.exists() else []
        names = {match[1] for line in lines if (match := _LIBRARIES.search(line))}
        threads = os.environ.get("OMP_NUM_THREADS")
        return self.backend.state() | {"libraries": sorted(names), "threads": threads}

    def compute_reference(self, request: ComputeReference) -> None:
        """Compute the reference that contestants are judged by."""
        reference.compute(request.request, load_file(request.params), Path(request.folder))

    def ceilings(self, request: MeasureCeilings) -> Ceiling:
        """The rates of matrix products and copies alone in this framework."""
        from bench.speed import ceilings

        return ceilings.measure(request)

    def _call(self, task: Task, steps: int = 1) -> Callable[[], object]:
        """``steps`` of a workload, one after the other, until the last is done."""
        own = self.backend
        if task.prompts is not None:
            prompts = task.prompts
            return lambda: [own.decode(prompts, task.new_tokens) for _ in range(steps)]
        methods = {
            "train": "train",
            "overhead": "train",
            "forward": "forward",
            "forward-backward": "forward_backward",
        }
        do = getattr(own, methods[task.workload])
        at_once = self._at_once(task)

        def run() -> float:
            for _ in range(steps // at_once):
                if at_once > 1:
                    *_, loss = self._scanning.train_several(list(islice(self.stream, at_once)))
                else:
                    loss = do(next(self.stream))
            return own.wait(loss)

        return run

    def _at_once(self, task: Task) -> int:
        """How many steps of a workload one program takes."""
        return self.job.contestant.settings.dispatch if task.workload == "train" else 1

    @property
    def _scanning(self) -> Scanning:
        return cast(Scanning, self.backend)

    def _judged(self, task: Task) -> list[Judged]:
        own, (first, second, *_) = self.backend, self.batches
        own.reset(load_file(self.params))
        if task.prompts is not None:
            return self.judge.tokens(own.decode(task.prompts, task.new_tokens))
        if task.workload == "forward":
            return self.judge.losses([own.wait(own.forward(first))])
        if task.workload == "forward-backward":
            losses = [own.wait(own.forward_backward(first))]
            gradients = self.judge.gradients(own.gradients(), clipped=False)
            return [*self.judge.losses(losses), *gradients]
        loss, values, clipped = own.first_step(first)
        gradients = self.judge.gradients(values, clipped)
        judged = [*self.judge.losses([loss, own.wait(own.train(second))]), *gradients]
        if (at_once := self._at_once(task)) > 1:
            own.reset(load_file(self.params))
            batches = list(islice(cycle(self.batches), at_once))
            one, two, *_ = self._scanning.train_several(batches)
            judged += self.judge.losses([own.wait(one), own.wait(two)])
        return judged

    def _forget_peak(self) -> None:
        """Have the kernel count this process's peak memory from here on."""
        gc.collect()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> Peak:
        """The peak memory so far."""
        status = Path("/proc/self/status")
        text = status.read_text() if status.exists() else ""
        resident = re.search(r"VmHWM:\s+(\d+) kB", text)
        host = int(resident[1]) * 1024 if resident else 0
        if self.job.device != "cuda":
            return Peak(host)
        framework = frameworks.one(self.job.contestant.framework)
        return Peak(host, framework.runtime.peak_memory("cuda"))


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
