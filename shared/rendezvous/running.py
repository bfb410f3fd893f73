"""A run of several processes: beats, a common last step, and a common end."""

import contextlib
import math
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from shared.files import Json
from shared.rendezvous.peer import Limits, Peer
from shared.world import World


class Rendezvous:
    """The processes of a run that has begun, of which there may be one alone.

    ``addresses`` are free addresses of rank 0's host, ``host:port``, for the frameworks' own
    connections. ``checkpoint`` is the newest one that is known to be whole.
    """

    def __init__(
        self,
        world: World,
        peers: list[Peer],
        addresses: list[str],
        limits: Limits,
        on_end: "EndHandler",
    ) -> None:
        self.world, self.addresses = world, addresses
        self.checkpoint: str | None = None
        self._peers, self._limits, self._on_end = peers, limits, on_end
        self._step, self._advanced, self._longest = 0, 0, 0.0
        self._begun = self._moved = time.monotonic()
        for peer in peers:  # early ones had nothing to send until all had come
            peer.heard = peer.moved = self._begun
        self._is_asked_to_stop, self._last = False, 0
        self._is_leaving = False
        self._ending = threading.Lock()
        self._main = threading.current_thread()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        if peers:
            self._watcher.start()

    # Called by the program

    def begin(self, step: int) -> None:
        """Report that ``step`` begins; on rank 0, first agree on a stop that was requested.

        No process can finish a step that rank 0 has not begun. Rank 0 begins the last step only
        after every process knows that it is the last, so all of them stop after the same one.
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
        """Report progress within a step that takes long: this process does not hang."""
        self._advanced += 1
        self._moved = time.monotonic()

    def ends_after(self, step: int, asked: bool) -> bool:
        """Whether all stop after ``step``; ``asked`` is whether this process is asked to stop."""
        if not self._peers:
            return asked
        if asked and not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            if self.world.rank:
                self._tell_all(stop=True)
        return step == self._last

    def keep(self, checkpoint: str) -> None:
        """Tell every process that ``checkpoint`` is whole."""
        self.checkpoint = checkpoint
        self._tell_all(kept=checkpoint)

    def leave(self) -> None:
        """Leave the run; rank 0 waits a while for the others, whose messages go through it."""
        self._is_leaving = True
        self._tell_all(bye=True)
        if self._peers:
            self._watcher.join(self._limits.silence)
        if not self._watcher.is_alive():
            for peer in self._peers:
                peer.socket.close()

    @contextlib.contextmanager
    def end_all_on_error(self) -> Iterator[None]:
        """Within, an error of this process ends all processes; one that is alone just raises it."""
        try:
            yield
        except BaseException as error:
            if not self._peers:
                raise
            if isinstance(error, KeyboardInterrupt):
                self._fail("interrupted, without waiting for the step to end")
            # The framework may notice before the watcher that another process is gone. Then the
            # watcher ends this process during the wait.
            if isinstance(error, ValueError):
                time.sleep(self._limits.beat)
                self._fail(str(error))
            time.sleep(self._limits.grace)
            traceback.print_exc()
            reason = str(error).strip().partition("\n")[0]
            self._fail(f"{type(error).__name__}: {reason}")

    def _fail(self, sentence: str) -> NoReturn:
        place = f"rank {self.world.rank} on host {socket.gethostname()}"
        self._end(f"{place}, {_in(self._step)}: {sentence}")

    def _end(self, sentence: str) -> NoReturn:
        """End all processes. Not by an exception: the main thread may never come to handle it."""
        with self._ending:  # never released: a process ends once
            self._tell_all(end=sentence)
            try:
                sys.stdout.flush()
                self._on_end(sentence, self.checkpoint)
            finally:
                if self.world.rank == 0:
                    # Once rank 0 is gone, JAX aborts the others; they print their sentence first.
                    time.sleep(self._limits.beat)
                os._exit(1)

    def _tell_all(self, **message: Json) -> None:
        for peer in self._peers:
            peer.send(**message)

    # Run by the thread

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
                self._check_progress()

    def _listen(self, peer: Peer) -> bool:
        """Act on the messages of ``peer``; False if no more will come."""
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
            self.checkpoint = message.get("kept", self.checkpoint)
            if "stop" in message:
                self._is_asked_to_stop = True
            if "last" in message:
                self._last = message["last"]
                peer.send(agreed=True)
            if "agreed" in message:
                peer.agreed.set()
            peer.has_left = peer.has_left or "bye" in message
        return messages is not None and not peer.has_left

    def _check_progress(self) -> None:
        """End the run if a process is silent or behind, or if none makes progress."""
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
        # The first step has no limit, since programs are compiled in it.
        limit = max(patience, 10 * self._longest) if self._longest else math.inf
        abreast = [peer for peer in present if peer.step == self._step]
        # Only rank 0 is connected to all.
        if self.world.rank == 0 and len(abreast) == len(self._peers) and now - self._moved > limit:
            places = [f"rank {peer.rank} at {peer.place}" for peer in abreast]
            places.append(f"rank {self.world.rank} at {_place(self._main)}")
            self._end(
                f"no process came to the end of step {self._step} in {now - self._begun:.0f} s, "
                f"where none took over {self._longest:.0f} s before: {', '.join(sorted(places))}"
            )


EndHandler = Callable[[str, str | None], None]


def print_end(sentence: str, checkpoint: str | None) -> None:
    """Print how the run ended, in one line on stderr."""
    suffix = f"; the newest whole checkpoint is {checkpoint}" if checkpoint else ""
    print(f"{sentence}{suffix}", file=sys.stderr, flush=True)


def _in(step: int) -> str:
    return f"in step {step}" if step else "before the first step"


def _place(thread: threading.Thread) -> str:
    """The source line that ``thread`` is at, as ``train.py:12``."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "its end"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
