"""How the processes of one run meet, watch one another, stop together and fail together.

Each process connects to that of rank 0 and says what it was started with; none begins before all
are there and were started alike. From then on both ends of every connection send a beat a second,
with the step that they have begun. Whoever notices that another process is lost says so to rank 0,
rank 0 to all, and each ends with that one sentence. A thread does this, since the program itself
may be inside a collective operation, where it would wait for the lost one for ever.

Messages are JSON objects, one a line.
"""

import contextlib
import json
import math
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from shared.world import World

# Facts are few: whoever sends a longer line is none of ours.
_LONGEST_LINE = 1 << 20
_LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds from beat to beat, without a beat, behind or absent, and for others to be told."""

    beat: float = 1.0
    silence: float = 10.0
    patience: float = 300.0
    grace: float = 5.0


class _Peer:
    """The connection to another process, and what it last said of itself."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        connection.settimeout(limits.silence)
        self.socket = connection
        self.rank, self.host = 0, ""
        self.step, self.advanced, self.place = 0, 0, ""
        self.heard = self.moved = time.monotonic()
        self.agreed = threading.Event()
        self.has_left = False
        self._unread = b""
        self._sending = threading.Lock()

    def __str__(self) -> str:
        return f"rank {self.rank} on host {self.host}"

    def send(self, **message: Any) -> None:
        """Send ``message``; that a connection is down is noticed where it is read from."""
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, most: int = -1) -> list[dict[str, Any]] | None:
        """The messages that have come; ``None`` at the connection's end, or if they are none.

        What comes behind the first ``most`` is left for the next time.
        """
        try:
            piece = self.socket.recv(1 << 16)
            *lines, self._unread = (self._unread + piece).split(b"\n", most)
            messages = [json.loads(line) for line in lines]
        except (OSError, ValueError, RecursionError):
            return None
        whole = all(isinstance(message, dict) for message in messages)
        return messages if piece and whole and len(self._unread) < _LONGEST_LINE else None


class Meeting:
    """The processes of a run that has begun; a run in one process is a meeting of one.

    ``addresses`` are free places of rank 0's host, ``host:port``, for what the frameworks connect
    to by themselves. ``kept`` is the newest checkpoint that is known to be whole.
    """

    def __init__(
        self, world: World, peers: list[_Peer], addresses: list[str], limits: Limits, tell: "Teller"
    ) -> None:
        self.world, self.addresses = world, addresses
        self.kept: str | None = None
        self._peers, self._limits, self._on_end = peers, limits, tell
        self._step, self._advanced, self._longest = 0, 0, 0.0
        self._begun = self._moved = time.monotonic()
        for peer in peers:  # who came early had nothing to say until all were there
            peer.heard = peer.moved = self._begun
        self._is_asked_to_stop, self._last = False, 0
        self._is_leaving = False
        self._ending = threading.Lock()
        self._main = threading.current_thread()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        if peers:
            self._watcher.start()

    # What the program calls

    def begin(self, step: int) -> None:
        """Say that ``step`` begins; on rank 0, first agree on a stop that somebody was asked for.

        No process can finish a step that rank 0 has not begun. So when rank 0 begins one only after
        everybody knows that it is the last, all of them stop after the same one.
        """
        if self.world.rank == 0 and self._is_asked_to_stop and not self._last:
            self._last = step
            self._tell_all(last=step)
            for peer in self._peers:
                peer.agreed.wait()
        now = time.monotonic()
        if self._step:
            self._longest = max(self._longest, now - self._begun)
        self._step, self._begun, self._moved = step, now, now

    def advance(self) -> None:
        """Say that this process gets on within a step that takes long, and does not hang."""
        self._advanced += 1
        self._moved = time.monotonic()

    def ends_after(self, step: int, asked: bool) -> bool:
        """Whether all stop after ``step``; ``asked`` says that this process was told to stop."""
        if not self._peers:
            return asked
        if asked and not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            if self.world.rank:
                self._tell_all(stop=True)
        return step == self._last

    def keep(self, checkpoint: str) -> None:
        """Have everybody know that ``checkpoint`` is whole."""
        self.kept = checkpoint
        self._tell_all(kept=checkpoint)

    def leave(self) -> None:
        """Say goodbye; rank 0 stays a while for the others', since they all hear through it."""
        self._is_leaving = True
        self._tell_all(bye=True)
        if self._peers:
            self._watcher.join(self._limits.silence)
        if not self._watcher.is_alive():
            for peer in self._peers:
                peer.socket.close()

    @contextlib.contextmanager
    def one_for_all(self) -> Iterator[None]:
        """Within, an error of this process ends them all; in a meeting of one it is just raised."""
        try:
            yield
        except BaseException as error:
            if not self._peers:
                raise
            if isinstance(error, KeyboardInterrupt):
                self._fail("interrupted, without waiting for the step to end")
            # The framework may have noticed before us that another process is gone. If so, the
            # watcher ends this one while we wait.
            if isinstance(error, ValueError):
                time.sleep(self._limits.beat)
                self._fail(str(error))
            time.sleep(self._limits.grace)
            traceback.print_exc()
            reason = str(error).strip().partition("\n")[0]
            self._fail(f"{type(error).__name__}: {reason}")

    def _fail(self, sentence: str) -> NoReturn:
        own = f"rank {self.world.rank} on host {socket.gethostname()}"
        self._end(f"{own}, {_in(self._step)}: {sentence}")

    def _end(self, sentence: str) -> NoReturn:
        """The end of all processes. Not an exception: nobody may be there to take it."""
        with self._ending:  # never given back: a process ends once
            self._tell_all(end=sentence)
            try:
                sys.stdout.flush()
                self._on_end(sentence, self.kept)
            finally:
                if self.world.rank == 0:
                    # Once it is gone, JAX aborts the others, which shall have spoken by then.
                    time.sleep(self._limits.beat)
                os._exit(1)

    def _tell_all(self, **message: Any) -> None:
        for peer in self._peers:
            peer.send(**message)

    # What the thread does

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer.socket, selectors.EVENT_READ, peer)
            due = time.monotonic()
            while selector.get_map() and not (self._is_leaving and self.world.rank):
                for key, _ in selector.select(self._limits.beat / 4):
                    if not self._listen(key.data):
                        selector.unregister(key.fileobj)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._limits.beat
                    place = _place(self._main)
                    self._tell_all(step=self._step, advanced=self._advanced, place=place)
                self._look_round()

    def _listen(self, peer: _Peer) -> bool:
        """Do what ``peer`` says; False if it will say no more."""
        messages = peer.receive()
        if messages is None and not (peer.has_left or self._is_leaving):
            self._end(f"{peer} died {_in(self._step)}")
        for message in messages or ():
            peer.heard = time.monotonic()
            if "end" in message:
                self._end(message["end"])
            at = (message.get("step", peer.step), message.get("advanced", peer.advanced))
            if at != (peer.step, peer.advanced):
                (peer.step, peer.advanced), peer.moved = at, peer.heard
            peer.place = message.get("place", peer.place)
            self.kept = message.get("kept", self.kept)
            if "stop" in message:
                self._is_asked_to_stop = True
            if "last" in message:
                self._last = message["last"]
                peer.send(agreed=True)
            if "agreed" in message:
                peer.agreed.set()
            peer.has_left = peer.has_left or "bye" in message
        return messages is not None and not peer.has_left

    def _look_round(self) -> None:
        """End the run if somebody is silent, behind, or if nobody gets any further."""
        now, silence, patience = time.monotonic(), self._limits.silence, self._limits.patience
        present = [peer for peer in self._peers if not (peer.has_left or self._is_leaving)]
        for peer in present:
            if now - peer.heard > silence:
                self._end(
                    f"{peer} was not heard of for {silence:g} s, {_in(self._step)}: the process "
                    "was stopped, its host went down, or the network between them is cut"
                )
            if peer.step < self._step and now - max(peer.moved, self._moved) > patience:
                self._end(
                    f"{peer} has been behind for {patience:g} s, {_in(peer.step)}, at "
                    f"{peer.place}, while rank {self.world.rank} waits {_in(self._step)}: it hangs"
                )
        # Programs are compiled in the first step, which therefore has no limit.
        limit = max(patience, 10 * self._longest) if self._longest else math.inf
        abreast = [peer for peer in present if peer.step == self._step]
        # Only rank 0 hears of all.
        if self.world.rank == 0 and len(abreast) == len(self._peers) and now - self._moved > limit:
            places = [f"rank {peer.rank} at {peer.place}" for peer in abreast]
            places.append(f"rank {self.world.rank} at {_place(self._main)}")
            self._end(
                f"no process came to the end of step {self._step} in {now - self._begun:.0f} s, "
                f"where none took over {self._longest:.0f} s before: {', '.join(sorted(places))}"
            )


Teller = Callable[[str, str | None], None]


def say(sentence: str, kept: str | None) -> None:
    """Print how the run ended, in one line on stderr."""
    last = f"; the newest whole checkpoint is {kept}" if kept else ""
    print(f"{sentence}{last}", file=sys.stderr, flush=True)


def _in(step: int) -> str:
    return f"in step {step}" if step else "before the first step"


def _place(thread: threading.Thread) -> str:
    """Where ``thread`` is in its program."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "its end"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


# The beginning


def meet(
    world: World,
    facts: Mapping[str, Any],
    *,
    problem: str | None = None,
    port: int | None = None,
    rendezvous: int = 1,
    limits: Limits | None = None,
    tell: Teller = say,
) -> Meeting:
    """Meet the others of ``world``, all of them started with the same ``facts``, plain JSON.

    ``problem`` says why this process cannot begin, so that the others need not wait for it.
    ``port`` is where rank 0 is met if not at ``world.port``; ``rendezvous`` says how many
    ``addresses`` are needed. Raises ``ValueError`` on every process, naming the rank and the fact
    that differs, the rank that has a problem, or those that did not come within
    ``limits.patience`` seconds.
    """
    limits, port = limits or Limits(), port or world.port
    hello = {
        "rank": world.rank,
        "host": socket.gethostname(),
        "facts": {"processes": world.size, **facts},
        "problem": problem,
    }
    if world.size == 1:
        if problem:
            raise ValueError(problem)
        return Meeting(world, [], [], limits, tell)
    if world.rank:
        peer, addresses = _go(world, hello, port, limits)
        return Meeting(world, [peer], addresses, limits, tell)
    reception = _Reception(world, hello, port, limits)
    peers = reception.gather()
    addresses = _free_addresses(world.host, rendezvous)
    for peer in peers:
        peer.send(welcome=addresses, host=hello["host"])
    return Meeting(world, peers, addresses, limits, tell)


class _Reception:
    """Rank 0 at the beginning: who has come, and what is wrong with whom."""

    def __init__(self, world: World, hello: dict[str, Any], port: int, limits: Limits) -> None:
        self.world, self.hello, self.port, self.limits = world, hello, port, limits
        self.arrived: list[_Peer] = []
        self.wrong = [_refusal(hello)] if hello["problem"] else []
        self.deadline = time.monotonic() + limits.patience
        self._hurry()

    def gather(self) -> list[_Peer]:
        """The connections to all others. Raises ``ValueError``, once they have been told why."""
        self._receive()
        ranks = [peer.rank for peer in self.arrived]
        absent = [str(rank) for rank in range(1, self.world.size) if rank not in ranks]
        if absent and not self.wrong:
            self.wrong.append(
                f"of {self.world.size} processes, rank {', '.join(absent)} did not come to "
                f"{self.world.host}:{self.port} within {self.limits.patience:g} s: look at what "
                "they print, and at the network between the hosts"
            )
        if self.wrong:
            for peer in self.arrived:
                peer.send(refused=self.wrong[0])
                peer.socket.close()
            raise ValueError(self.wrong[0])
        return self.arrived

    def _receive(self) -> None:
        """Let in whoever comes, until all are there or the time is over."""
        with (
            _listen(self.world.host, self.port) as listener,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(listener, selectors.EVENT_READ)
            while self._is_waiting():
                for key, _ in selector.select(self.deadline - time.monotonic()):
                    if key.data is None:
                        peer = _Peer(listener.accept()[0], self.limits)
                        selector.register(peer.socket, selectors.EVENT_READ, peer)
                    elif not self._hear(key.data):
                        selector.unregister(key.fileobj)
                        key.data.socket.close()
            for key in selector.get_map().values():
                if key.data is not None and key.data not in self.arrived:
                    key.data.socket.close()

    def _is_waiting(self) -> bool:
        return len(self.arrived) < self.world.size - 1 and time.monotonic() < self.deadline

    def _hear(self, peer: _Peer) -> bool:
        """Take what ``peer`` says of itself; False if it is gone, or is none of ours."""
        messages = peer.receive()
        if messages is None:
            if peer in self.arrived:
                self.arrived.remove(peer)
            return False
        for message in messages:
            if not {"rank", "host", "facts", "problem"} <= message.keys():
                return False
            peer.rank, peer.host = message["rank"], message["host"]
            self._judge(peer, message)
            self.arrived.append(peer)
        return True

    def _judge(self, peer: _Peer, message: dict[str, Any]) -> None:
        if message["problem"]:
            self.wrong.append(_refusal(message))
        elif different := _difference(self.hello["facts"], message["facts"]):
            self.wrong.append(f"{peer} was started with {different}")
        elif peer.rank in (0, *(other.rank for other in self.arrived)):
            self.wrong.append(
                f"rank {peer.rank} came twice, the second time from host {peer.host}: give each "
                "process a RANK of its own"
            )
        self._hurry()

    def _hurry(self) -> None:
        """Once something is wrong, the others are waited for only so that they are told."""
        if self.wrong:
            self.deadline = min(self.deadline, time.monotonic() + self.limits.grace)


def _refusal(hello: dict[str, Any]) -> str:
    return f"rank {hello['rank']} on host {hello['host']}: {hello['problem']}"


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The first fact that differs, as ``batch_size 8, rank 0 with 16``; empty if none does."""
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            return (
                f"{name} {theirs.get(name)}, rank 0 with {ours.get(name)}: start every process "
                "with the same settings, code and data"
            )
    return ""


def _go(world: World, hello: dict[str, Any], port: int, limits: Limits) -> tuple[_Peer, list[str]]:
    """The connection to rank 0, and the addresses that it gives; ``ValueError`` if it refuses."""
    deadline = time.monotonic() + limits.patience
    reason = "it did not answer"
    while time.monotonic() < deadline:
        try:
            peer = _Peer(socket.create_connection((world.host, port), limits.grace), limits)
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(limits.beat / 10)
            continue
        peer.send(**hello)
        # Rank 0 knows who is missing once its own patience has ended, which began before this.
        answer = _first(peer, limits.patience + 2 * limits.grace)
        if "refused" in answer:
            raise ValueError(answer["refused"])
        if "welcome" in answer:
            peer.host = answer["host"]
            return peer, answer["welcome"]
        peer.socket.close()
    raise ValueError(
        f"rank {world.rank} did not meet rank 0 at {world.host}:{port} within "
        f"{limits.patience:g} s: {reason}; look at what rank 0 prints, and whether its host can be "
        "reached at that port"
    )


def _first(peer: _Peer, seconds: float) -> dict[str, Any]:
    """The first message that comes within ``seconds``; empty if none does."""
    silence = peer.socket.gettimeout()
    peer.socket.settimeout(seconds)
    messages = peer.receive(most=1)
    while messages == []:  # less than a line
        messages = peer.receive(most=1)
    peer.socket.settimeout(silence)
    return messages[0] if messages else {}


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: for processes of this host alone if that is how they call it."""
    try:
        return socket.create_server((host if host in _LOCAL else "", port))
    except OSError as error:
        raise ValueError(
            f"rank 0 cannot be met at port {port}: {error.strerror}; choose another port"
        ) from None


def _free_addresses(host: str, count: int) -> list[str]:
    """Places of this host, which is called ``host``, that nothing listens at."""
    with contextlib.ExitStack() as held:  # all held at once, so that no two are the same
        found = [held.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [f"{host}:{listener.getsockname()[1]}" for listener in found]
