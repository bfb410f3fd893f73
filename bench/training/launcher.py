"""Start the processes of a training run on this host, and wait until all have ended."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from bench.training.config import PROCESSES, RunSettings
from shared.rendezvous import token
from shared.world import LOOPBACK, World
from twingrad.cli.options import option

# Seconds that processes have to end by themselves once one has failed: twice what they need to
# notice that it is gone.
_GRACE = 25.0
# Processes that one host can have: some more than the devices of any.
MOST = 64
_STARTED = "TWINGRAD_STARTED"
# The status of a process that Ctrl-C or a termination has stopped.
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Options with which ``train`` starts other processes, which are started without them."""

    processes: int | None = option(
        None,
        group=PROCESSES,
        metavar="N",
        otherwise=1,
        rule="--data-parallel times --sharded, divided by the hosts",
        help="processes to start on this host",
    )
    hosts: str | None = option(
        None,
        group=PROCESSES,
        metavar="A,B",
        help="names of several hosts, each of which starts as many",
    )
    host_index: int | None = option(
        None, group=PROCESSES, metavar="I", help="which of the hosts this one is, from 0"
    )
    port: int | None = option(
        None,
        group=PROCESSES,
        metavar="P",
        otherwise=World.port,
        rule="a free one where all processes are on this host",
        help="port of the first host, at which all meet",
    )

    @property
    def is_given(self) -> bool:
        """Whether any of them is given."""
        return self != LaunchOptions()

    @property
    def host_names(self) -> tuple[str, ...]:
        """The hosts, by name; empty if all processes are on this one."""
        return tuple(filter(None, (self.hosts or "").split(",")))


@dataclass(frozen=True, kw_only=True)
class Launch:
    """``processes`` on each of ``hosts``, of which this is the one numbered ``host_index``.

    They meet at ``port`` of the first host. Without ``hosts`` all are on this one, at a free port.
    """

    processes: int
    hosts: tuple[str, ...] = ()
    host_index: int | None = None
    port: int | None = None

    @property
    def size(self) -> int:
        """The number of processes on all hosts."""
        return max(len(self.hosts), 1) * self.processes

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"--processes is {self.processes}: expected 1 or more")
        if self.processes > MOST:
            raise ValueError(
                f"--processes is {self.processes}: expected {MOST} on one host at most, one for "
                "each of its devices or for some of its cores"
            )
        if self.port is not None and not 0 < self.port < 1 << 16:
            raise ValueError(f"--port is {self.port}: expected 1 to {(1 << 16) - 1}")
        if self.host_index is not None and not self.hosts:
            raise ValueError("--host-index is for several hosts: name them all by --hosts A,B")
        if self.hosts and self.host_index not in range(len(self.hosts)):
            raise ValueError(
                f"--host-index is {self.host_index}: say which of the {len(self.hosts)} hosts "
                f"{', '.join(self.hosts)} this is, from 0 to {len(self.hosts) - 1}"
            )


def plan_launch(
    options: LaunchOptions, settings: RunSettings, environ: Mapping[str, str]
) -> Launch | None:
    """The processes to start; None where this process trains by itself or was started already.

    As many as ``data_parallel`` times ``sharded``, where the options name no number.
    """
    if "RANK" in environ or World.from_environment(environ).size > 1:
        if options.is_given:
            raise ValueError(
                "--processes, --hosts, --host-index and --port start processes: leave them out "
                "where torchrun or srun does"
            )
        return None
    size = (settings.data_parallel or 1) * (settings.sharded or 1)
    if not options.is_given and size <= 1:
        return None
    hosts = options.host_names
    processes = options.processes
    if processes is None:
        processes = max(size // max(len(hosts), 1), 1)
    return Launch(
        processes=processes, hosts=hosts, host_index=options.host_index, port=options.port
    )


def run(launch: Launch, arguments: Sequence[str]) -> int:
    """Start ``twingrad`` with ``arguments`` in every process of this host; the exit status of all.

    Their stderr is passed on; a message of ours that several print is printed once.
    """
    printed: set[str] = set()
    children, relays = [], []
    # Processes of other hosts cannot be told one made here: they agree on one by themselves.
    secret = {} if launch.hosts else {token.VARIABLE: token.new()}
    for world in _worlds(launch):
        child = _start(world, arguments, launch.processes, secret)
        relay = threading.Thread(target=_relay, args=(child, printed))
        relay.start()
        children.append(child)
        relays.append(relay)
    with _forwarded(children):
        status = _wait(children)
    for child, relay in zip(children, relays, strict=True):
        relay.join()
        child.communicate()
    return status


def _worlds(launch: Launch) -> Iterator[World]:
    host = launch.hosts[0] if launch.hosts else LOOPBACK
    port = launch.port or (World.port if launch.hosts else free_port())
    for local in range(launch.processes):
        yield World(
            rank=(launch.host_index or 0) * launch.processes + local,
            size=launch.size,
            local_rank=local,
            host=host,
            port=port,
        )


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def _start(
    world: World, arguments: Sequence[str], local: int, secret: Mapping[str, str]
) -> subprocess.Popen[str]:
    environment = {
        **share(local),
        **secret,
        **os.environ,
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.size),
        "LOCAL_RANK": str(world.local_rank),
        "MASTER_ADDR": world.host,
        "MASTER_PORT": str(world.port),
        _STARTED: "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        env=environment,
        stdin=subprocess.PIPE,  # which ends when this process does
        stdout=None if world.rank == 0 else 2,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C reaches them once, through this process
    )


def share(processes: int) -> dict[str, str]:
    """Environment variables that give each of ``processes`` on this machine its share of cores."""
    return {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // processes, 1))}


def _relay(child: subprocess.Popen[str], printed: set[str]) -> None:
    """Pass on the stderr of ``child``, but for messages of ours that are ``printed`` already."""
    for line in child.stderr or ():
        if line.startswith("twingrad: "):
            if line in printed:
                continue
            printed.add(line)
        sys.stderr.write(line)
        sys.stderr.flush()


@contextmanager
def _forwarded(children: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Forward Ctrl-C and a termination to the ``children``, which know how to end."""

    def forward(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    with stop_signals(forward):
        yield


@contextmanager
def stop_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` called within at Ctrl-C and at a termination."""
    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in watched]
    try:
        yield
    finally:
        for number, earlier in zip(watched, before, strict=True):
            signal.signal(number, earlier)


def _wait(children: Sequence[subprocess.Popen[str]]) -> int:
    """Wait until all have ended: 0, or the first status that was not; 1 stands for a signal."""
    first, deadline = 0, float("inf")
    running = list(children)
    while running:
        for child in running:
            if child.poll() and not first:
                first = child.returncode
                # After Ctrl-C, rank 0 has a checkpoint to write when the others have ended.
                if first != INTERRUPTED:
                    deadline = time.monotonic() + _GRACE
        running = [child for child in running if child.returncode is None]
        if time.monotonic() > deadline:
            for child in running:
                child.kill()
        time.sleep(0.05)
    return max(first, 0) or int(first != 0)


def watch_parent(environ: Mapping[str, str]) -> None:
    """End this process as on a termination when the ``run`` that started it has died."""
    if environ.get(_STARTED):
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock would outlive the program
    os.kill(os.getpid(), signal.SIGTERM)
