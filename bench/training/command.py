"""Run ``twingrad train``: GPT-2 in one framework, or in both in lockstep, in one run folder."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.training import processes, run_folder, setup
from bench.training.config import DEFAULT_PRESET
from bench.training.framework_run import NonFiniteLoss
from bench.training.run_lock import RunLock
from bench.training.session import Session, require_device
from bench.training.setup import RunSetup, TrainOptions
from shared.rendezvous import Rendezvous
from shared.world import World
from twingrad.cli.ending import AGAIN_S, STOPPING, Stopped, say
from twingrad.printable import sentence
from twingrad.terminal import NAMES as TITLES


def run(options: TrainOptions, console: Console) -> int:
    """Train, and return the exit status: 1 where the loss is not a number, 130 if interrupted.

    In one process, or in this one of several. Raises ``ValueError`` where the call or an input is
    wrong.
    """
    chosen = tuple(frameworks.one(name) for name in options.frameworks)
    world = World.from_environment(os.environ)
    options = processes.resolve_layout(options, world, os.environ)
    name = options.settings.init or options.settings.preset or DEFAULT_PRESET
    if options.resume and options.out is None:
        raise ValueError("--resume goes on with a run: give its folder as --out DIR")
    out = options.out or run_folder.free_folder(Path(name).name)
    if world.rank:
        console = Console(quiet=True)  # rank 0 speaks for all
    if options.framework is None and len(chosen) == 1:
        console.print(f"Training in {TITLES[chosen[0].name]}: the other is not installed.")
    if options.settings.dtype == "tf32" and world.size == 1:  # before the data take their time
        require_device("tf32", frameworks.pick_device(options.device, chosen))
    with RunLock(out, world) as lock:
        with processes.report_setup_error(options, out, world):
            if (out / run_folder.CONFIG).exists():
                lock.take()
            prepared = setup.prepare(options, out, chosen, world, console)
        meeting = processes.meet(options, prepared, world, console)
        with meeting.end_all_on_error():
            status = _train(options, prepared, chosen, meeting, lock, console)
            processes.leave(chosen, meeting)
    return status


def _train(
    options: TrainOptions,
    prepared: RunSetup,
    chosen: Sequence[Framework],
    meeting: Rendezvous,
    lock: RunLock,
    console: Console,
) -> int:
    device = processes.join(chosen, meeting, options.device)
    session = Session.begin(options, prepared, chosen, device, meeting, lock, console)
    try:
        with _signals() as interrupted:
            session.train(interrupted)
    except NonFiniteLoss as stop:
        console.print(f"[red]Stopped[/red] {escape(str(stop))}", soft_wrap=True)
        if meeting.world.rank:
            say(f"twingrad: stopped {sentence(str(stop))}")
        return 1
    finally:
        session.close()
    return 130 if session.step < prepared.until else 0


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Remember a signal that ends a command, and raise at a second; yield whether one came.

    A terminal that is closed and a supervisor send the same one twice in a row, which counts once.
    """
    seen: list[float] = []

    def remember(number: int, frame: FrameType | None) -> None:
        seen.append(time.monotonic())
        if len(seen) > 1 and seen[-1] - seen[-2] > AGAIN_S:
            raise Stopped(number)

    before = {
        number: signal.signal(number, remember)
        for number in STOPPING
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
