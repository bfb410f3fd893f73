"""One framework's process: it makes the models of a pair file and times what it is asked to.

The pair file may load both frameworks; only one of them computes in the process, so that neither's
threads and memory slow the other.
"""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

from twingrad import devices, lifeline, user_code
from twingrad.cli.imports import without_checkout
from twingrad.foreign import Untyped
from twingrad.pair import Pair, importing_beside, load
from twingrad.timing.rounds import Failed, Framework, Mode, Ready, Task, Workload

WARM_UPS = 3  # calls before the first sample; the first of them compiles
NAMES = {"torch": "PyTorch", "jax": "JAX"}
Step = Callable[[], float]


class Calls(Protocol):
    """What a framework's module of calls offers."""

    def step(self, mode: Mode, workload: Workload) -> Step:
        """The step to time."""

    def facts(self) -> dict[str, int]:
        """What it computes with."""


class Worker:
    """The process of one framework, seen from outside. Close it by leaving ``with``."""

    def __init__(self, framework: Framework, path: Path, dtype: str, device: str = "cpu"):
        self.framework = framework
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, framework, str(path), dtype, device), daemon=True
        )
        self.process.start()
        theirs.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.pipe.close()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def facts(self) -> dict[str, int]:
        """What it computes with. Raises ``ValueError`` where the pair cannot be made."""
        answer = self._ask(None)
        if isinstance(answer, Failed):
            raise ValueError(answer.reason)
        return answer  # type: ignore[return-value]

    def warm_up(self, task: Task) -> Ready | Failed:
        """The first calls of a task, or why there are none."""
        return self._ask((task, 0))  # type: ignore[return-value]

    def sample(self, task: Task, steps: int) -> float:
        """Seconds a step, the mean of ``steps``. Raises ``ValueError`` if it fails all at once."""
        answer = self._ask((task, steps))
        if isinstance(answer, Failed):
            raise ValueError(answer.reason)
        return float(answer)  # type: ignore[arg-type]

    def _ask(self, request: tuple[Task, int] | None) -> object:
        try:
            self.pipe.send(request)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(2)
            status = self.process.exitcode
            raise ValueError(
                f"the process that times {NAMES[self.framework]} ended (status {status}): "
                "it may lack memory; take a smaller batch"
            ) from None


def _serve(pipe: Untyped, framework: Framework, path: str, dtype: str, device: str) -> None:
    """Answer until the other end is closed."""
    lifeline.end_with_parent()
    os.dup2(2, 1)  # what libraries print is no result
    steps: dict[Task, Step] = {}
    with ExitStack() as within:
        try:
            within.enter_context(devices.using(device, framework))
            pair = within.enter_context(_pair(Path(path)))
            calls = _calls(framework, pair, dtype, within)
        except Exception as error:
            pipe.recv()
            pipe.send(Failed("; ".join(line.strip() for line in user_code.lines(error))))
            return
        while True:
            try:
                request = pipe.recv()
            except (EOFError, OSError):
                return
            pipe.send(calls.facts() if request is None else _answer(calls, steps, *request))


@contextmanager
def _pair(path: Path) -> Iterator[Pair]:
    with without_checkout(), importing_beside(path):
        yield load(path)


def _calls(framework: Framework, pair: Pair, dtype: str, within: ExitStack) -> Calls:
    if framework == "torch":
        from twingrad.timing.torch_calls import TorchCalls

        within.enter_context(devices.torch_defaults())
        return TorchCalls(pair, dtype)
    from twingrad.arithmetic import arithmetic

    within.enter_context(arithmetic(dtype, hurry=False))
    from twingrad.timing.jax_calls import JaxCalls

    return JaxCalls(pair, dtype)


def _answer(
    calls: Calls, steps: dict[Task, Step], task: Task, count: int
) -> Ready | Failed | float:
    try:
        if count == 0:
            for other in [each for each in steps if each.workload != task.workload]:
                del steps[other]  # its memory is free again
            steps[task] = calls.step(task.mode, task.workload)
            return _warmed_up(steps[task])
        return _timed(steps[task], count)
    except (Exception, SystemExit) as error:  # whatever a compiler, or the pair's code, raises
        return Failed(_reason(error))


def _warmed_up(step: Step) -> Ready:
    seconds = []
    losses = []
    for _ in range(WARM_UPS):
        started = time.perf_counter()
        losses.append(float(step()))
        seconds.append(time.perf_counter() - started)
    return Ready(first_s=seconds[0], step_s=min(seconds[1:]), loss=losses[0])


def _timed(step: Step, count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - started) / count
    finally:
        gc.enable()


def _reason(error: BaseException) -> str:
    frames = user_code.frames_of(error)
    place = f" ({frames[-1].place})" if frames else ""
    return f"{user_code.error_text(error)}{place}"[:300]
