"""Connections to one upstream, kept for the next exchange: a pool by upstream, in each worker.

A connection goes back only when both sides are clean: the answer ended where its framing said, nothing followed it,
the whole request went up, and neither side means to close. It is taken out as soon as the upstream ends it. One that
dies unread under a request may have met the upstream's idle timeout; who asked decides whether to ask again.

Idle ones outlive their worker where others follow it: the pool there of the same upstream, on the same terms, goes on
with them (`proxy.handover`). With TLS they do not, since what both sides agreed on is known to this process alone.
"""

import asyncio
import os
import socket
import ssl
from bisect import insort
from collections import deque
from contextlib import suppress
from math import inf
from typing import Final, Protocol, cast, final

from gateway.config.tls import upstream_context
from gateway.faults import OperatorError
from gateway.figures import UPSTREAM_CONNECTS
from gateway.http1 import ResponseReader
from gateway.lookup import Resolver
from gateway.proxy.calls import place_of
from gateway.proxy.handover import Handover
from gateway.proxy.limits import Limits
from gateway.proxy.names import Name, dial, is_name
from gateway.proxy.outgoing import Outbox, Outgoing
from gateway.proxy.sockets import duplicate, ended_well, holds_more, reset
from gateway.routing import Origin, Route


class Owner(Protocol):
    """Whoever a connection to an upstream works for."""

    def upstream_received(self, data: bytes) -> None:
        """Bytes came in."""

    def upstream_closed(self) -> None:
        """Nothing more will come; the connection's `cut` says whether that is an end that was meant."""

    def upstream_writable(self, writable: bool) -> None:
        """The write buffer fell below its low mark, or rose above its high one."""


class UpstreamConnection(Outgoing):
    """One connection to an upstream, with the reader of its answers; `tunnelled` once it has left HTTP."""

    def __init__(self, pool: "Pool", limits: Limits, outbox: Outbox) -> None:
        super().__init__(outbox, outbox.requests)
        self.owner: Owner | None = None
        self.reader = ResponseReader()
        self.tunnelled = False
        self.closed = False
        self.cut = True  # until an end that was meant: what came last may not be all
        self.fault = ""  # why it ended, as TLS tells of an upstream that wants another certificate
        self.writable = True
        self.reused = False
        self.encrypted = False
        self.overtaken = False  # something may be here behind what was read last
        self.retired = False  # it leads to where the upstream's name leads no longer
        self.ip = ""  # where it leads, if the upstream is known by name
        self._reading = True
        self._lost = False
        self.idle_since = 0.0
        self._pool = pool
        self._limits = limits

    # -- the owner's side -------------------------------------------------------------------------------------

    def ask(self, owner: Owner, method: bytes, upgrade: bytes | None, data: bytes) -> None:
        """Send the beginning of a request for `owner`: what comes from now on is the answer to it."""
        self.owner = owner
        self.reader.expect(method, upgrade)
        self.send(data)

    def write(self, *parts: bytes) -> None:
        transport = self.transport
        if transport is None or self.closed:
            return
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)

    def write_eof(self) -> bool:
        """End our side; False where that cannot be done alone (TLS)."""
        transport = self.transport
        if transport is None or self.closed or not transport.can_write_eof():
            return False
        with suppress(OSError):  # as for a client
            transport.write_eof()
        return True

    def pause(self) -> None:
        if self._reading and self._transport is not None and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._reading and self._transport is not None and not self.closed:
            self._reading = True
            self._transport.resume_reading()

    @property
    def place(self) -> str:
        """Where it leads, as the operator knows it."""
        return self._pool.place

    def leads_to(self, ip: str) -> None:
        """It leads to this address, of those that the upstream's name has."""
        self.ip = ip

    def retire(self) -> None:
        """The upstream's name leads elsewhere: it serves no further exchange."""
        self.retired = True

    def take_over(self, which: "Which") -> None:
        """Be the one that another worker has left."""
        self.ip, self.reused, self.idle_since = which.ip, True, which.idle_since

    def hold_up(self, blocked: bool) -> None:
        """Whether it takes no more for now, where its transport is passed by."""
        self.writable = not blocked

    def may_hold_more(self) -> None:
        """Something may be here behind what was read last."""
        self.overtaken = True

    def tunnel_to(self, owner: Owner) -> None:
        """Leave HTTP; what comes from now on is for `owner`."""
        self.owner, self.tunnelled = owner, True

    def give_back(self, now: float) -> None:
        """The answer has ended and the upstream keeps the connection: so do we, if nothing is left on it."""
        transport = self._transport
        if (
            self.closed
            or self.retired
            or transport is None
            or self.reader.buffered
            or transport.get_write_buffer_size()
        ):
            self.discard()
            return
        if self.overtaken and (self.encrypted or holds_more(transport)):
            self.discard()
            return
        if not self._reading:
            self.resume()
        self.owner, self.reused, self.idle_since = None, True, now
        self._pool.take_back(self)

    def discard(self) -> None:
        """The exchange is over, or given up: the connection ends, whatever is still on its way."""
        self.owner, self.closed = None, True  # also for whoever it has just been given to
        self._pool.forget(self)
        self.drop()
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """End the connection so that it looks broken, whatever is still on its way."""
        transport = self.transport
        if transport is not None and not self._lost:
            reset(transport)
        self.discard()

    def disappoint(self) -> None:
        """The upstream had kept the connection, but not for whoever came next."""
        self._pool.distrust()
        self.discard()

    def close(self) -> None:
        """End the connection once what was written has gone out, or the upstream has not taken it for so long."""
        self.owner = None
        self._pool.forget(self)
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(self._limits.slow_reader, self.reset)

    def leave(self, successors: Handover) -> None:
        """Leave an idle connection to the workers that follow."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            connection = duplicate(transport)
        except OSError:  # there is no descriptor left
            return
        self.closed = True  # for this worker
        self._pool.forget(self)
        transport.close()  # whatever comes from now on waits for who reads next
        successors.give_upstream(connection, self._pool.which(self).to_bytes())

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.buffer)
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        if self.closed:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the protocol's signature
        return self._pool.received

    def buffer_updated(self, nbytes: int) -> None:
        self.overtaken = nbytes == len(self._pool.received)
        if self.owner is None:
            self.discard()  # nobody asked: whatever this is, it answers nothing
        elif self.unsent:  # nor does it answer what has not gone out yet
            self.closed, self.fault = True, "it sent something before it was asked"
            self._end()
        else:
            self.owner.upstream_received(self._pool.received[:nbytes].tobytes())

    def eof_received(self) -> bool:
        self.closed = not self.tunnelled
        self.cut = not ended_well(cast("asyncio.Transport", self._transport))
        self._end()
        return self.tunnelled  # a tunnel may go on the other way

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if isinstance(exc, ssl.SSLError):
            self.fault = str(exc)
        if isinstance(exc, ConnectionError) and self.owner is not None and self._reading and not self.encrypted:
            self._read_what_is_left()
        self.cut = self.cut or exc is not None  # uvloop tells an end that TLS did not announce as this, without a fault
        self._end()
        self.drop()
        self._lost = True
        self._pool.forget(self)

    def _read_what_is_left(self) -> None:
        """An upstream that refuses a body answers, leaves, and resets what still comes up: a writing that fails ends
        the transport, and the answer may lie unread in its socket, which is closed behind `connection_lost`."""
        transport = cast("asyncio.Transport", self._transport)
        try:
            size = os.readv(transport.get_extra_info("socket").fileno(), [self._pool.received])
        except OSError:
            return
        if size:
            self.buffer_updated(size)

    def pause_writing(self) -> None:
        self.writable = False
        if self.owner is not None:
            self.owner.upstream_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self.owner is not None:
            self.owner.upstream_writable(True)

    def _end(self) -> None:
        if self.owner is not None:
            self.owner.upstream_closed()
        elif not self.tunnelled:
            self._pool.forget(self)


class UpstreamUnreachable(Exception):
    """No upstream of the route took a connection; `status` is what the client is told (502, 503 or 504), `upstream` the
    last one that was tried, and `failed` whether that is its fault and not that of too many calls."""

    def __init__(self, cause: str, status: int, upstream: str, *, failed: bool = True) -> None:
        super().__init__(cause)
        self.status, self.upstream, self.failed = status, upstream, failed


@final
class Which:
    """Which idle connection this is, as a worker has to know that goes on with it: its upstream and how many
    connections that has at most, the address that it leads to, and since when it rests (by the machine's clock)."""

    __slots__ = ("idle_since", "ip", "most", "origin")

    def __init__(self, origin: str, most: int, ip: str, idle_since: float) -> None:
        self.origin: Final = origin
        self.most: Final = most
        self.ip: Final = ip
        self.idle_since: Final = idle_since

    def to_bytes(self) -> bytes:
        """It, in bytes."""
        return f"{self.origin}\n{self.most}\n{self.ip}\n{self.idle_since!r}".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Which":
        """What `to_bytes` made the bytes of."""
        origin, most, ip, idle_since = data.decode().rsplit("\n", 3)
        return cls(origin, int(most), ip, float(idle_since))


Waiter = asyncio.Future["UpstreamConnection | None"]
"""Who waits gets a connection, or None for the promise that there is room to open one."""


class Pool:
    """The connections to one upstream: idle ones, the newest last, and who waits for one.

    Those who wait are served route by route in turn, so that a flood on one holds up no other.
    What comes in on any of them is received in one place, `received`, and copied from there before anything else is.
    """

    def __init__(
        self,
        origin: Origin,
        limits: Limits,
        received: memoryview,
        outbox: Outbox,
        resolver: Resolver,
        most: int | None = None,
    ) -> None:
        self.origin = origin
        self.place: Final = str(origin)  # as the operator knows it
        self._limits = limits
        self._most = most or (limits.plane_connections if origin.of_plane else limits.upstream_connections)
        named = origin.path is None and is_name(origin.host)
        self._name = Name(origin.host, origin.port, resolver, limits, self._moved) if named else None
        self._loop = asyncio.get_running_loop()
        self.received = received
        self._outbox = outbox
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._waiting: dict[Route, deque[Waiter]] = {}  # of each as many as one route may have; next the first route
        self._distrusted_until = -inf
        self._promised = 0  # connections that those who waited may open, and have not begun to

    def take_idle(self, *, fresh: bool) -> UpstreamConnection | None:
        """An idle connection; with `fresh` only one that was in use a moment ago."""
        while self._idle:
            connection = self._idle.pop()
            if fresh and self._loop.time() - connection.idle_since > self._limits.fresh:
                self._idle.append(connection)
                return None
            if not connection.closed:
                return connection
        return None

    def take_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next exchange, or give it to whoever waits."""
        if not self._waiting:
            self._idle.append(connection)
        elif self._loop.time() < self._distrusted_until:
            connection.close()  # who waits opens one
        elif not self._wake(connection):
            self._idle.append(connection)

    @property
    def used(self) -> int:
        """How many connections are in use."""
        return len(self._open) - len(self._idle)

    @property
    def idle(self) -> int:
        """How many connections are kept for the next exchange."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many exchanges wait for a connection."""
        return sum(map(len, self._waiting.values())) if self._waiting else 0

    @property
    def load(self) -> int:
        """How many exchanges are under way, those that wait included."""
        return len(self._open) - len(self._idle) + self._promised + self.waiting

    @property
    def is_spent(self) -> bool:
        """Whether the next exchange would have to wait."""
        return self._is_full and not self._idle

    def distrust(self) -> None:
        """Let nobody who waits lose the turn, for a while, to a connection that the upstream may end once more."""
        self._distrusted_until = self._loop.time() + self._limits.upstream_wait

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has ended; the next one waiting may open another."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake(None)

    def _wake(self, connection: UpstreamConnection | None) -> bool:
        """Give the one whose turn it is a connection, or with None promise room for one; False if nobody waits."""
        while self._waiting:
            route, queue = next(iter(self._waiting.items()))
            waiter = queue.popleft()
            del self._waiting[route]
            if queue:
                self._waiting[route] = queue  # behind the others
            if not waiter.done():
                self._promised += connection is None
                waiter.set_result(connection)
                return True
        return False

    async def take(self, route: Route, within: float | None) -> UpstreamConnection:
        """A new connection, which is to take so many seconds at most, or one that is given back meanwhile. Raises
        UpstreamUnreachable."""
        place = self.place
        try:
            return await self.connect(route, within)
        except TimeoutError as exc:
            raise UpstreamUnreachable(f"{place} did not take the connection", 504, place) from exc
        except (OSError, OperatorError) as fault:  # an SSLError is an OSError
            raise UpstreamUnreachable(f"{place}: {fault}", 502, place) from fault

    async def connect(self, route: Route, within: float | None = None) -> UpstreamConnection:
        """A new connection, or one that is given back meanwhile. Raises OSError, TimeoutError, UpstreamUnreachable."""
        if self._idle and self._is_full:
            self._idle[0].close()  # not fresh enough for this request: the oldest makes room
        while self._is_full:
            given = await self._wait_turn(route)
            if given is None:
                break
            if not given.closed:
                return given
            self.distrust()
        connection = UpstreamConnection(self, self._limits, self._outbox)
        self._open.add(connection)
        UPSTREAM_CONNECTS.add(1.0, place_of(self.origin))
        try:
            async with asyncio.timeout(within or self._limits.connect):
                await self._open_transport(connection)
        except BaseException:
            connection.discard()
            raise
        return connection

    async def open_apart(self) -> UpstreamConnection:
        """A connection that is not of the pool, and takes nobody's place there. Raises OSError, OperatorError."""
        connection = UpstreamConnection(self, self._limits, self._outbox)
        try:
            await self._open_transport(connection)
        except BaseException:
            connection.discard()
            raise
        return connection

    @property
    def _is_full(self) -> bool:
        return len(self._open) + self._promised >= self._most

    async def _wait_turn(self, route: Route) -> UpstreamConnection | None:
        """A connection that another exchange gives back, or None for room to open one. Raises UpstreamUnreachable where
        too many of the route wait, or it takes too long."""
        queue, place = self._waiting.get(route, deque()), self.place
        if len(queue) >= self._limits.upstream_waiting:
            raise UpstreamUnreachable(f"too many requests are waiting for {place}", 503, place, failed=False)
        waiter: Waiter = self._loop.create_future()
        queue.append(waiter)
        self._waiting[route] = queue
        try:
            async with asyncio.timeout(self._limits.upstream_wait):
                given = await waiter
        except BaseException as exc:
            self._leave(route, waiter)
            if waiter.done() and not waiter.cancelled():
                self._pass_on(waiter.result())  # its turn came in the moment of giving up
            if isinstance(exc, TimeoutError):
                cause = f"no connection to {place} was free within {self._limits.upstream_wait:g}s"
                raise UpstreamUnreachable(cause, 504, place, failed=False) from exc
            raise
        self._promised -= given is None
        return given

    def _pass_on(self, given: UpstreamConnection | None) -> None:
        """Let the next one have what was given to one who has gone."""
        if given is None:
            self._promised -= 1
            self._wake(None)
        elif not given.closed:
            self.take_back(given)

    def _leave(self, route: Route, waiter: Waiter) -> None:
        """Wait no more, and take nobody's place in the queue."""
        queue = self._waiting.get(route, deque())
        with suppress(ValueError):
            queue.remove(waiter)
        if not queue:
            self._waiting.pop(route, None)

    async def _open_transport(self, connection: UpstreamConnection) -> None:
        origin = self.origin
        if origin.path is not None:
            await self._loop.create_unix_connection(lambda: connection, origin.path)
            return
        tls = upstream_context(origin.secured) if origin.tls else None
        secured = origin.secured
        name = None if tls is None else origin.host if secured is None else secured.server_name or origin.host
        if self._name is None:
            await self._loop.create_connection(
                lambda: connection, origin.host, origin.port, ssl=tls, server_hostname=name
            )
            return
        sock, place = await dial(await self._name.places())
        connection.leads_to(place.ip)
        await self._loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)

    # -- where other workers follow -----------------------------------------------------------------------------

    def which(self, connection: UpstreamConnection) -> Which:
        """Which connection it is, to other workers."""
        return Which(str(self.origin), self._most, connection.ip, connection.idle_since)

    def leave(self, successors: Handover) -> None:
        """Leave the idle connections to the workers that follow, where these can go on with them."""
        if not (self.origin.tls or self.origin.of_plane):
            for connection in list(self._idle):
                connection.leave(successors)

    async def adopt(self, sock: socket.socket, which: Which) -> None:
        """Go on with an idle connection that another worker has left, where there is room for it."""
        if self._is_full or (self._name is not None and not self._name.may_lead_to(which.ip)):
            sock.close()
            return
        connection = UpstreamConnection(self, self._limits, self._outbox)
        connection.take_over(which)
        self._open.add(connection)
        try:
            if self.origin.path is not None:
                await self._loop.create_unix_connection(lambda: connection, sock=sock)
            else:
                await self._loop.create_connection(lambda: connection, sock=sock)
        except OSError:  # it ended on its way
            connection.discard()
            sock.close()
            return
        if connection.closed:
            return
        if holds_more(cast("asyncio.Transport", connection.transport)):
            connection.discard()  # what came on its way answers nothing, and may be read only behind the next request
        elif self._waiting:
            self.take_back(connection)
        else:
            insort(self._idle, connection, key=_rests_since)

    def tick(self) -> None:
        """Some time has passed: a name may lead elsewhere while connections stay open."""
        if self._name is not None and self._open:
            self._name.renew()

    def _moved(self, ips: frozenset[str]) -> None:
        """The upstream's name leads to other addresses now: use no connection to the old ones for another exchange."""
        for connection in list(self._open):
            if connection.ip and connection.ip not in ips:
                connection.retire()
        for connection in [connection for connection in self._idle if connection.retired]:
            connection.close()

    def close_idle(self, before: float) -> None:
        """Close the connections that have been idle since `before`."""
        for connection in [connection for connection in self._idle if connection.idle_since < before]:
            connection.close()


def _rests_since(connection: UpstreamConnection) -> float:
    return connection.idle_since
