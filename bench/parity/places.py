"""Where the two halves of a comparison are computed: here, JAX's beside, or in two workers.

JAX is imported and compiles in a process of its own while PyTorch is imported and computes in this
one. Several programs are shared out among two processes that have both frameworks each.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, TypeVarTuple

from bench.harness.frameworks import Framework, Frameworks
from bench.harness.side_process import SideProcess, begin_worker, ended_on_error
from bench.parity.program_runs import in_both

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
JAX_IMPORTS = ("jax", "flax.nnx", "optax")


class Place(Protocol):
    """Calls functions of a framework where that framework is loaded, or is to be."""

    def call(
        self, framework: Framework, function: Callable[[Framework, *Ts], T], *arguments: *Ts
    ) -> T:
        """``function(framework, *arguments)``; the function is one of a module's own."""


@dataclass(frozen=True)
class Here:
    """Both frameworks in this process."""

    def call(
        self, framework: Framework, function: Callable[[Framework, *Ts], T], *arguments: *Ts
    ) -> T:
        """``function`` in this process."""
        return function(framework, *arguments)


def in_each(
    place: Place,
    frameworks: Frameworks,
    function: Callable[[Framework, *Ts], T],
    *arguments: *Ts,
    together: bool = True,
) -> dict[str, T]:
    """The results of ``function`` by the framework's name, computed in turn or at once.

    In one process it is in turn: what a function imports would be parsed in two threads, which
    Python 3.11 cannot do.
    """

    def run(framework: Framework) -> T:
        return place.call(framework, function, *arguments)

    torch, jax = in_both(frameworks, run, together and not isinstance(place, Here))
    return {frameworks[0].name: torch, frameworks[1].name: jax}


@dataclass(frozen=True)
class JaxBeside:
    """PyTorch in this process, JAX in ``process``."""

    process: SideProcess

    def call(
        self, framework: Framework, function: Callable[[Framework, *Ts], T], *arguments: *Ts
    ) -> T:
        """``function`` in the framework's process."""
        if framework.name == "jax":
            return self.process.call(function, framework, *arguments)
        return function(framework, *arguments)


_ENDED = (
    "one of the two processes that compare programs has ended, as the system ends one where memory "
    "runs out: free some memory, or compare one program, or a smaller one (--preset)"
)


class Messages(Protocol):
    """Messages of workers: the number of each, and what it is doing."""

    def get(self, block: bool, timeout: float, /) -> tuple[int, str]:
        """Take the oldest; raises ``queue.Empty`` after ``timeout`` seconds without one."""


@dataclass(frozen=True)
class Workers:
    """Two processes, each with both frameworks, that take calls and programs as they are free."""

    pool: ProcessPoolExecutor
    messages: Messages

    def call(
        self, framework: Framework, function: Callable[[Framework, *Ts], T], *arguments: *Ts
    ) -> T:
        """``function`` in one of the processes; raises as ``answer`` does."""
        return self.answer(lambda: self.pool.submit(function, framework, *arguments).result())

    def answer(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns; ``ValueError`` says so where a process has ended before that."""
        try:
            return ask()
        except BrokenProcessPool:
            raise ValueError(_ENDED) from None


@contextmanager
def jax_beside() -> Iterator[Place]:
    """JAX in a process of its own, which ends with the context."""
    with SideProcess(JAX_IMPORTS) as process:
        yield JaxBeside(process)


@contextmanager
def workers() -> Iterator[Place]:
    """Two worker processes, which end with the context; programs not begun are left."""
    # Threads that wait for a core by spinning would slow the other worker down.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    with ProcessPoolExecutor(2, context, _begin, (messages,)) as pool, ended_on_error():
        try:
            yield Workers(pool, messages)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_MESSAGES: "list[multiprocessing.Queue[tuple[int, str]]]" = []  # of a worker


def _begin(messages: "multiprocessing.Queue[tuple[int, str]]") -> None:
    begin_worker()
    messages.cancel_join_thread()  # nobody waits for the last ones
    _MESSAGES.append(messages)


def tell(text: str) -> None:
    """In a worker: send what it is doing to the process that started it."""
    _MESSAGES[0].put((os.getpid(), text))


def settled(place: Place, device: str) -> Place:
    """``place`` for programs on ``device``: workers, which would hold a GPU's memory, are ended."""
    if not isinstance(place, Workers) or device == "cpu":
        return place
    place.pool.shutdown()
    return Here()


def another_pays() -> bool:
    """Whether other processes would be faster: not on one core, nor where JAX is loaded already."""
    return (os.cpu_count() or 1) > 1 and "jax" not in sys.modules
