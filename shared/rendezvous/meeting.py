"""The beginning of a run: every process connects to rank 0, and all compare their settings."""

import contextlib
import hmac
import selectors
import socket
import time
from collections.abc import Callable, Mapping

from shared.files import Json, JsonObject
from shared.rendezvous.peer import Limits, Peer
from shared.rendezvous.running import EndHandler, Rendezvous, print_end
from shared.world import LOOPBACK, World, is_local

# Connections that have not shown the token yet: with one more, the oldest is closed.
_STRANGERS = 64


def meet(
    world: World,
    facts: Mapping[str, Json],
    token: Callable[[], str],
    *,
    problem: str | None = None,
    port: int | None = None,
    addresses: int = 1,
    limits: Limits | None = None,
    on_end: EndHandler = print_end,
) -> Rendezvous:
    """Meet the other processes of ``world``, all started with the same ``facts``, plain JSON.

    ``token`` gives what only the processes of this run know; it is called before each try to reach
    rank 0, which may have made a new one, and on rank 0 once.
    ``problem`` is why this process cannot begin, so that the others need not wait for it. ``port``
    is that of rank 0, by default ``world.port``; ``addresses`` is how many free ones are needed.
    ``on_end`` is called with the sentence on which a run ends and the newest checkpoint. Raises
    ``ValueError`` on every process, naming the rank and the fact that differs, the rank that has a
    problem, or those that did not come within ``limits.patience`` seconds.
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
        return Rendezvous(world, [], [], limits, on_end)
    if world.rank:
        peer, free = _connect(world, hello, token, port, limits)
        return Rendezvous(world, [peer], free, limits, on_end)
    reception = _Reception(world, hello, token(), port, limits)
    peers = reception.gather()
    free = _free_addresses(world.host, addresses)
    for peer in peers:
        peer.send(welcome=free, host=hello["host"])
    return Rendezvous(world, peers, free, limits, on_end)


class _Reception:
    """Rank 0 before the run: the processes that have come, and the problems with them."""

    def __init__(
        self, world: World, hello: JsonObject, token: str, port: int, limits: Limits
    ) -> None:
        self.world, self.hello, self.port, self.limits = world, hello, port, limits
        self.token = token.encode()
        self.arrived: list[Peer] = []
        self.problems = [_refusal(hello)] if hello["problem"] else []
        self.deadline = time.monotonic() + limits.patience
        self._hurry()

    def gather(self) -> list[Peer]:
        """The connections to all others. Raises ``ValueError``, after telling them the reason."""
        self._receive()
        ranks = [peer.rank for peer in self.arrived]
        absent = [str(rank) for rank in range(1, self.world.size) if rank not in ranks]
        if absent and not self.problems:
            self.problems.append(
                f"of {self.world.size} processes, rank {', '.join(absent)} did not come to "
                f"{self.world.host}:{self.port} within {self.limits.patience:g} s: look at what "
                "they print, and at the network between the hosts"
            )
        if self.problems:
            for peer in self.arrived:
                peer.send(refused=self.problems[0])
                peer.socket.close()
            raise ValueError(self.problems[0])
        return self.arrived

    def _receive(self) -> None:
        """Accept connections until all processes have come or the time is over."""
        with (
            _listen(self.world.host, self.port) as listener,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(listener, selectors.EVENT_READ)
            while self._is_waiting():
                for key, _ in selector.select(self.deadline - time.monotonic()):
                    if key.data is None:
                        self._accept(listener, selector)
                    elif key.data.is_open and not self._hear(key.data):
                        self._drop(key.data, selector)
            for peer in self._strangers(selector):
                peer.socket.close()

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        """Take a connection, and close the oldest if too many have not said whose they are."""
        with contextlib.suppress(OSError):  # who came is gone already
            peer = Peer(listener.accept()[0], self.limits)
            selector.register(peer.socket, selectors.EVENT_READ, peer)
            for stranger in self._strangers(selector)[:-_STRANGERS]:
                self._drop(stranger, selector)

    def _drop(self, peer: Peer, selector: selectors.BaseSelector) -> None:
        if peer in self.arrived:
            self.arrived.remove(peer)
        selector.unregister(peer.socket)
        peer.socket.close()

    def _strangers(self, selector: selectors.BaseSelector) -> list[Peer]:
        """The connections that have not shown the token, in the order in which they came."""
        peers = [key.data for key in selector.get_map().values() if key.data is not None]
        return sorted((p for p in peers if p not in self.arrived), key=lambda peer: peer.heard)

    def _is_waiting(self) -> bool:
        return len(self.arrived) < self.world.size - 1 and time.monotonic() < self.deadline

    def _hear(self, peer: Peer) -> bool:
        """Take the first message of ``peer``; False if it is gone, or not a process of the run.

        Who has arrived is silent until all have.
        """
        messages = peer.receive()
        if messages is None:
            return False
        for message in messages:
            if peer in self.arrived or not self._is_of_this_run(message):
                return False
            peer.rank, peer.host = message["rank"], message["host"]
            self._judge(peer, message)
            self.arrived.append(peer)
        return True

    def _is_of_this_run(self, message: JsonObject) -> bool:
        given = str(message.get("token")).encode(errors="replace")
        if not hmac.compare_digest(given, self.token):  # in a time that tells nothing of the token
            return False
        return {"rank", "host", "facts", "problem"} <= message.keys()

    def _judge(self, peer: Peer, message: JsonObject) -> None:
        if message["problem"]:
            self.problems.append(_refusal(message))
        elif different := _difference(self.hello["facts"], message["facts"]):
            self.problems.append(f"{peer} was started with {different}")
        elif peer.rank in (0, *(other.rank for other in self.arrived)):
            self.problems.append(
                f"rank {peer.rank} came twice, the second time from host {peer.host}: give each "
                "process a RANK of its own"
            )
        self._hurry()

    def _hurry(self) -> None:
        """Once there is a problem, wait for the others only as long as it takes to tell them."""
        if self.problems:
            self.deadline = min(self.deadline, time.monotonic() + self.limits.grace)


def _refusal(hello: JsonObject) -> str:
    return f"rank {hello['rank']} on host {hello['host']}: {hello['problem']}"


def _difference(first: Mapping[str, Json], other: Mapping[str, Json]) -> str:
    """The first fact that differs, as ``batch_size 8, rank 0 with 16``; empty if none does."""
    for name in [*first, *other]:
        if first.get(name) != other.get(name):
            return (
                f"{name} {other.get(name)}, rank 0 with {first.get(name)}: start every process "
                "with the same settings, code and data"
            )
    return ""


def _connect(
    world: World, hello: JsonObject, token: Callable[[], str], port: int, limits: Limits
) -> tuple[Peer, list[str]]:
    """The connection to rank 0, and the free addresses. Raises ``ValueError`` if it refuses."""
    deadline = time.monotonic() + limits.patience
    reason, is_stranger = "it did not answer", False
    while time.monotonic() < deadline:
        try:
            known = token()
            peer = Peer(socket.create_connection((world.host, port), limits.grace), limits)
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(limits.beat / 10)
            continue
        peer.send(token=known, **hello)
        # Rank 0 knows which ranks are missing when its own patience, begun earlier, has ended.
        answer = _first(peer, limits.patience + 2 * limits.grace)
        if "refused" in answer:
            raise ValueError(answer["refused"])
        if "welcome" in answer:
            peer.host = answer["host"]
            return peer, answer["welcome"]
        peer.socket.close()
        is_stranger = True
        time.sleep(limits.beat / 10)
    if is_stranger:  # whatever has become of who answered
        reason = "who answered did not take the token of this run"
    raise ValueError(
        f"rank {world.rank} did not meet rank 0 at {world.host}:{port} within "
        f"{limits.patience:g} s: {reason}; look at what rank 0 prints, and whether its host can be "
        "reached at that port"
    )


def _first(peer: Peer, seconds: float) -> JsonObject:
    """The first message within ``seconds``; empty if none comes."""
    silence = peer.socket.gettimeout()
    peer.socket.settimeout(seconds)
    messages = peer.receive(most=1)
    while messages == []:  # less than a line
        messages = peer.receive(most=1)
    peer.socket.settimeout(silence)
    return messages[0] if messages else {}


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; one for this host alone if ``host`` is a local name."""
    try:
        return socket.create_server((LOOPBACK if is_local(host) else "", port))
    except OSError as error:
        raise ValueError(
            f"rank 0 cannot be met at port {port}: {error.strerror}; choose another port"
        ) from None


def _free_addresses(host: str, count: int) -> list[str]:
    """Free addresses of this host, whose name is ``host``."""
    place = LOOPBACK if is_local(host) else ""
    with contextlib.ExitStack() as stack:  # all open at once, so that no two are the same
        listeners = [stack.enter_context(socket.create_server((place, 0))) for _ in range(count)]
        return [f"{host}:{listener.getsockname()[1]}" for listener in listeners]
