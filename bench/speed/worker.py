"""One contestant's process: ``python -m bench.worker FD`` answers what the race asks over a socket.

It loads the contestant's framework alone, runs what it is told to, and says how long that took and
what else the machine did meanwhile. Whatever libraries print goes to stderr.
"""

import gc
import os
import re
import sys
import time
import traceback
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from bench.harness import frameworks
from bench.harness.machine import Load
from bench.speed import reference
from bench.speed.backends import backend

_LIBRARIES = re.compile(
    r"/(lib(?:cudnn|cublas|nccl|mkl|dnnl|gomp|iomp|openblas|torch_c|tcmalloc|jemalloc)[^/\s]*\.so[.\d]*)$"
)


def main(argv: list[str] | None = None) -> int:
    """Answer until the other end is closed."""
    arguments = sys.argv[1:] if argv is None else argv
    pipe = Connection(int(arguments[0]))
    os.dup2(2, 1)  # what libraries print must not look like an answer of the command's
    _die_first()
    worker = Worker()
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return 0
        try:
            answer = getattr(worker, asked.pop("do"))(**asked)
        except MemoryError as error:
            answer = {"error": "out of memory", "detail": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": _reason(error), "detail": traceback.format_exc(limit=-3)}
        pipe.send(answer)


def _reason(error: Exception) -> str:
    text = str(error)
    memory = ("out of memory", "OutOfMemory", "RESOURCE_EXHAUSTED", "can't allocate memory")
    if any(word in text or word in type(error).__name__ for word in memory):
        return "out of memory"
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}"[:300]


def _die_first() -> None:
    """Ask the kernel to end this process, not the one that started it, when memory is short."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class Worker:
    """The contestant, and its batches."""

    def __init__(self) -> None:
        self.load, self.begun = Load(), time.perf_counter()
        self.racer: Any = None
        self.pristine = True

    def make(self, job: backend.Job, params: str, batches: str, answer: str) -> dict[str, Any]:
        """Build the model from the parameters in a file; seconds until it stands."""
        begun = time.perf_counter()
        self.job = job
        self.params = params  # the path: what only judges must not count as the contestant's memory
        self.racer = backend.make(job, load_file(params))
        self.batches = [self.racer.put(*batch) for batch in backend.read_batches(batches)]
        self.judge = reference.Judge(Path(answer), job.dtype)
        self._forget_peak()
        return {"seconds": time.perf_counter() - begun}

    def ready(self, workload: str, prompts: Any = None, new_tokens: int = 0) -> dict[str, Any]:
        """Warm a workload up, note its memory, and have it certified."""
        call = self._call(workload, prompts, new_tokens)
        begun = time.perf_counter()
        call()
        first = time.perf_counter() - begun
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        # Afterwards the process has held what it was judged by, too.
        peak = self._peak() if self.pristine else {}
        self.pristine = False
        parity = reference.certificate(self._judged(workload, prompts, new_tokens))
        return {
            "first_s": first,
            "step_s": min(seconds),
            "peak_bytes": peak,
            "parity": parity,
        }

    def time(
        self, workload: str, steps: int, prompts: Any = None, new_tokens: int = 0
    ) -> dict[str, Any]:
        """Seconds a step over ``steps`` of them, and how many cores others kept busy meanwhile."""
        call = self._call(workload, prompts, new_tokens, steps)
        gc.collect()
        gc.disable()
        try:
            load = Load()
            begun = time.perf_counter()
            call()
            seconds = time.perf_counter() - begun
            others = load.others(seconds)
        finally:
            gc.enable()
        return {"seconds": seconds / steps, "others": others}

    def first(self) -> dict[str, Any]:
        """The first loss of a process that has just begun, and whether it is right."""
        begun = time.perf_counter()
        loss = self.racer.wait(self.racer.forward_backward(self.batches[0]))
        now = time.perf_counter()
        seconds, others = now - begun, self.load.others(now - self.begun)
        parity = reference.certificate(self.judge.losses([loss]))
        return {"seconds": seconds, "others": others, "parity": parity}

    def judged_by(self, answer: str) -> dict[str, Any]:
        """Another oracle's answer to be held against from here on."""
        self.judge = reference.Judge(Path(answer), self.job.dtype)
        return {}

    def state(self) -> dict[str, Any]:
        """Settings, versions, attention kernel, and the numeric libraries that are loaded."""
        found = self.racer.state()
        maps = Path("/proc/self/maps")
        lines = maps.read_text().splitlines() if maps.exists() else []
        names = {match[1] for line in lines if (match := _LIBRARIES.search(line))}
        return found | {"libraries": sorted(names), "threads": os.environ.get("OMP_NUM_THREADS")}

    def oracle(self, question: reference.Question, params: str, folder: str) -> dict[str, Any]:
        """Answer what contestants will be held against."""
        reference.answer(question, load_file(params), Path(folder))
        return {}

    def ceilings(self, **asked: Any) -> dict[str, Any]:
        """What this framework reaches on matrix products and copies alone."""
        from bench.speed import ceilings

        return ceilings.measure(**asked)

    def _call(self, workload: str, prompts: Any, new_tokens: int, steps: int = 1) -> Any:
        module = self.racer
        if workload == "decode":
            return lambda: [module.decode(prompts, new_tokens) for _ in range(steps)]
        do = {
            "train": lambda batch: module.train(batch),
            "overhead": lambda batch: module.train(batch),
            "forward": lambda batch: module.forward(batch),
            "forward-backward": lambda batch: module.forward_backward(batch),
        }[workload]
        if not hasattr(self, "_stream"):
            self._stream = cycle(self.batches)

        def run() -> float:
            for _ in range(steps):
                loss = do(next(self._stream))
            return module.wait(loss)

        return run

    def _judged(self, workload: str, prompts: Any, new_tokens: int) -> list[dict[str, Any]]:
        module, (first, second, *_) = self.racer, self.batches
        module.reset(load_file(self.params))
        if workload == "decode":
            return self.judge.tokens(module.decode(prompts, new_tokens))
        if workload == "forward":
            return self.judge.losses([module.wait(module.forward(first))])
        if workload == "forward-backward":
            losses = [module.wait(module.forward_backward(first))]
            return [
                *self.judge.losses(losses),
                *self.judge.gradients(module.gradients(), clipped=False),
            ]
        loss, gradients, clipped = module.first_step(first)
        judged = self.judge.gradients(gradients, clipped)
        return [*self.judge.losses([loss, module.wait(module.train(second))]), *judged]

    def _forget_peak(self) -> None:
        """Have the kernel count this process's peak memory from here on."""
        gc.collect()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> dict[str, int]:
        """Bytes at most so far: of the process, and on the device where that is another place."""
        status = Path("/proc/self/status")
        text = status.read_text() if status.exists() else ""
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        peak = {"host": int(found[1]) * 1024 if found else 0}
        if self.job.device == "cuda":
            peak["device"] = frameworks.one(self.job.contestant.framework).runtime.peak_memory(
                "cuda"
            )
        return peak


if __name__ == "__main__":
    sys.exit(main())
