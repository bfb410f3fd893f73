"""One call of ``train``: GPT-2 in one framework, or in both in lockstep, in one run folder."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.training import processes, run_folder, setup
from bench.training.framework_run import Stopped
from bench.training.session import Session
from bench.training.setup import Asked, Beginning
from shared.rendezvous import Rendezvous
from shared.world import World

FRAMEWORKS = ("torch", "jax", "both")


def run(asked: Asked, console: Console) -> int:
    """Train, and return the exit status: 1 where the loss is not a number, 130 if interrupted.

    In one process, or in this one of several. Raises ``ValueError`` where the call or an input is
    wrong.
    """
    names = frameworks.NAMES if asked.framework == "both" else (asked.framework,)
    chosen = tuple(frameworks.one(name) for name in names)
    world = World.from_environment(os.environ)
    asked = processes.placed(asked, world, os.environ)
    named = asked.given.get("init") or asked.given.get("preset") or "tiny"
    out = asked.out or run_folder.free_folder(Path(named).name)
    if world.rank:
        console = Console(quiet=True)  # rank 0 speaks for all
    with processes.excused(asked, world):
        start = setup.prepare(asked, out, chosen, world, console)
    meeting = processes.meet(asked, start, world, console)
    with meeting.end_all_on_error():
        status = _train(asked, start, chosen, meeting, console)
        processes.part(chosen, meeting)
    return status


def _train(
    asked: Asked,
    start: Beginning,
    chosen: Sequence[Framework],
    meeting: Rendezvous,
    console: Console,
) -> int:
    device = processes.join(chosen, meeting, asked.device)
    session = Session.begin(asked, start, chosen, device, meeting, console)
    try:
        with _signals() as interrupted:
            session.train(interrupted)
    except Stopped as stop:
        console.print(f"[red]Stopped[/red] {escape(str(stop))}", soft_wrap=True)
        if meeting.world.rank:
            print(f"twingrad: stopped {stop}", file=sys.stderr)
        return 1
    finally:
        session.close()
    return 130 if session.step < start.until else 0


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C and a termination are remembered, not raised; a second one is raised."""
    seen: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, remember) for number in watched]
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)
