"""The access plane of one worker: its connections, from the first to the last, and the clock that all of them go by."""

import asyncio
import socket
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from gateway.config import Config
from gateway.figures import CLIENT_CONNECTIONS, TUNNELS
from gateway.guard import Guard
from gateway.observe import get_logger
from gateway.proxy.asserting import Assertions
from gateway.proxy.dispatch import Peer
from gateway.proxy.engine import BeginTrace, Engine, date
from gateway.proxy.explaining import explanation
from gateway.proxy.front import Front
from gateway.proxy.handover import Handover
from gateway.proxy.limits import DEFAULT, Limits
from gateway.proxy.mirror import Mirror, UnderWay
from gateway.refusals import RefusalPage
from gateway.routing import Route

_TAKEN: Final = (
    0.05  # seconds, until the loop has told the front of a connection that it took just before it took no more
)

_FAREWELL: Final = 1.0  # seconds before the end of all, in which streams are told that they end

_log = get_logger("gateway.proxy")


class Proxy(Engine):
    """Give `front` to `loop.create_server`. `out` are the upstreams that other workers leave out by now."""

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        config: Config,
        guard: Guard,
        authorization_socket: str,
        refusal_page: RefusalPage,
        limits: Limits = DEFAULT,
        out: frozenset[str] = frozenset(),
        assertions: Assertions | None = None,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        routes = tuple(routes)
        super().__init__(
            routes=routes,
            config=config,
            guard=guard,
            authorization_socket=authorization_socket,
            refusal_page=refusal_page,
            limits=limits,
            out=out,
            assertions=assertions,
            begin_trace=begin_trace,
        )
        self.upstreams.prepare(routes)
        self.fronts: set[Front] = set()
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.arriving = set[asyncio.Task[None]]()  # connections on which no request can be read yet
        self._connecting: asyncio.Task[None] | None = None  # to the shadow
        self._mirror: Mirror | None = None
        self._beat_at = 0.0
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)

    def front(self, peer: Peer | None = None) -> Front:
        """The protocol of a new client connection; `peer` is who is at its other end, where the socket says another."""
        return Front(self, self, peer)

    def take(self, sock: socket.socket, ahead: bytes) -> None:
        """Go on with a client connection that another worker has left, with what has come on it already."""
        self.let_arrive(self._arrive(sock, ahead))

    def let_arrive(self, connection: Coroutine[Any, Any, None]) -> None:
        """Go on with a connection on which no request can be read yet; `drain` waits for it, too."""
        arriving = self._loop.create_task(connection)
        self.arriving.add(arriving)
        arriving.add_done_callback(self.arriving.discard)

    async def _arrive(self, sock: socket.socket, ahead: bytes) -> None:
        front = self.front()
        front.reader.receive(ahead)
        with suppress(OSError):  # it ended on its way
            await self._loop.connect_accepted_socket(lambda: front, sock)
            front.arrive()

    def mirror(self, path: str) -> None:
        """Tell the shadow that listens at `path` of each call that ends; with an empty one, nobody any longer."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        if path:
            self._mirror = mirror = Mirror(self, self._under_way)
            self._connecting = self._loop.create_task(mirror.connect(path))

    def _under_way(self) -> Iterator[UnderWay]:
        """The calls that were let pass and go on, also in a tunnel."""
        for front in list(self.fronts):
            exchange = front.under_way
            if exchange is not None and exchange.let_pass_at:
                yield UnderWay(exchange.call_head, front.peer.address, exchange.request_id, exchange.let_pass_at)

    def add(self, front: Front) -> None:
        """A client connection has begun."""
        self.fronts.add(front)

    def discard(self, front: Front) -> None:
        """A client connection has ended."""
        self.fronts.discard(front)
        if not self.fronts:
            self._drained.set()

    def report(self) -> None:
        """Say in the figures what there is now."""
        CLIENT_CONNECTIONS.set(len(self.fronts))
        TUNNELS.set(sum(front.tunnel is not None for front in self.fronts))
        self.upstreams.report()
        self.guard.report()

    async def drain(self, seconds: float, successors: Handover | None = None) -> None:
        """Let the exchanges under way end, for so many seconds at most; nothing new is begun meanwhile.

        Connections that are kept go to `successors` where there are some, and end else.
        """
        self.draining, self.successors = successors is None, successors
        now = self.now()
        deadline = now + seconds
        self.drain_began = min(self.drain_began, now)  # it may be hastened
        self.drain_ends = min(self.drain_ends, deadline - min(_FAREWELL, seconds / 2))
        for front in list(self.fronts):
            front.drain()
        await asyncio.sleep(_TAKEN)
        if self.arriving:
            await asyncio.wait(self.arriving, timeout=max(0.0, deadline - self.now()))
        if successors is not None:
            for front in list(self.fronts):
                front.drain()
            self.upstreams.leave(successors)
        self._drained.clear()
        if self.fronts:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), max(0.0, deadline - self.now()))
        if successors is not None:
            self.upstreams.leave(successors)
            with suppress(TimeoutError):
                await asyncio.wait_for(successors.wait_given(), max(0.0, deadline - self.now()))

    def recall(self, request_id: str) -> dict[str, object]:
        """What is remembered of the calls with an identifier, and how far that reaches, as something that JSON has."""
        wanted, memory = request_id.encode(), self.decisions.memory
        return {
            "calls": [explanation(at, decision, self.dispatcher) for at, decision in self.decisions.find(wanted)],
            "gave": wanted.startswith(self.own_ids),
            **memory._asdict(),
        }

    async def end(self) -> None:
        """Break off whatever is still open, and wait until who listens was told of it, for some moments at most."""
        self._drained.clear()
        self.close()
        if self.fronts:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), _FAREWELL)

    def close(self) -> None:
        """Break off whatever is still open."""
        self.ended = True
        self._ticking.cancel()
        for front in list(self.fronts):
            front.abort()
        self.upstreams.close()
        self.pipes.close()
        self.refusals.tell()

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)  # whatever happens in this one
        self.clock = now = self.now()
        self.date = date()
        self.decisions.tick()
        self.upstreams.tick()
        if self.successors is not None:
            self.upstreams.leave(self.successors)
        for front in list(self.fronts):
            try:
                front.tick(now)
            except Exception:  # noqa: BLE001  # a fault of ours, by which no other connection may outlive its time
                _log.exception("unexpected failure, the connection ends", address=front.peer.address)
                front.abort()
        if now >= self._beat_at:
            self._beat_at = now + self.limits.recheck
            self.upstreams.close_idle(now - self.limits.upstream_idle)
            self.guard.watch.beat()
