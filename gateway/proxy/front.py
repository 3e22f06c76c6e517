"""The front: the protocol on every client connection. It reads requests, one exchange at a time, in their order.

While an exchange is under way, what the client sends ahead waits in the reader, and above 64 KiB in the kernel. What a
connection is busy with, and what may follow, is in `proxy.states`.
"""

import asyncio
import os
from math import inf
from typing import Final, Protocol, cast

from gateway.errors import Refused
from gateway.guard import PUBLIC, Allowed, Judged, Turn
from gateway.http1 import End, Malformed, RequestHead, RequestReader
from gateway.http1.websocket import Conversation
from gateway.proxy import forward_auth
from gateway.proxy.answers import BODY_LATE, lines_of, malformed, prefers_html, render
from gateway.proxy.dispatch import SOCKET, Destination, Peer
from gateway.proxy.edge import OwnAnswer
from gateway.proxy.engine import Engine
from gateway.proxy.exchange import Exchange
from gateway.proxy.finished import Finished
from gateway.proxy.forward_auth import Verification
from gateway.proxy.handover import Handover
from gateway.proxy.outlet import Outlet
from gateway.proxy.pump import Upload
from gateway.proxy.sockets import duplicate
from gateway.proxy.states import STANDINGS, Phase, Standing
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.upstream import UpstreamConnection
from gateway.routing import Route
from gateway.states import changed


class Registry(Protocol):
    """Where a worker keeps the connections that are open."""

    def add(self, front: "Front") -> None: ...
    def discard(self, front: "Front") -> None: ...


class Front(Outlet):
    """One client connection."""

    __slots__ = (
        "_advancing",
        "_blocked_until",
        "_deadline",
        "_departing",
        "_ended",
        "_engine",
        "_head_begun",
        "_hungry",
        "_keep_alive",
        "_registry",
        "encrypted",
        "exchange",
        "introduced",
        "peer",
        "reader",
        "standing",
        "tunnel",
        "writable",
    )

    def __init__(self, engine: Engine, registry: Registry, peer: Peer | None = None) -> None:
        super().__init__(engine.outbox)
        self.reader: Final = RequestReader()
        self.introduced: Final = peer is not None  # by a proxy, in a header that is not here any more
        self.peer = peer or Peer("", False)
        self.writable = True
        self.encrypted = False  # by TLS
        self.standing = Standing.READING
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        self._engine: Final = engine
        self._registry: Final = registry
        self._keep_alive = True
        self._advancing = False
        self._hungry = True  # what is here is not enough for the next event
        self._head_begun = True  # a new connection has to bring one
        self._deadline = inf
        self._blocked_until = inf
        self._ended = False  # the client has ended its side, and all that it sent is here
        self._departing: tuple[Handover, int, bytes] | None = None  # it goes to another worker, with what came ahead

    def _go(self, standing: Standing) -> None:
        self.standing = changed(STANDINGS, self.standing, standing)

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        engine = self._engine
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=engine.limits.buffer)
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        name = transport.get_extra_info("peername")
        if not self.introduced:
            self.peer = engine.dispatcher.peer(str(name[0]) if isinstance(name, tuple) else SOCKET)
        self._deadline = engine.clock + (engine.limits.newcomer if engine.draining else engine.limits.head)
        self._registry.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the protocol's signature
        return self._engine.received

    def buffer_updated(self, nbytes: int) -> None:
        data = self._engine.received[:nbytes].tobytes()
        if self.tunnel is not None:
            self.tunnel.client_received(data)
            return
        if self.standing >= Standing.LINGERING:
            return
        if (
            self.exchange is None
            and self.writable
            and (read := self._engine.reading.read(self.reader, data)) is not None
        ):
            self._hungry = False
            self._deadline = inf
            head, body, to = read
            self._begin(head, to, body)
            return
        self.reader.receive(data)
        self.advance()

    def eof_received(self) -> bool:
        """The client has ended its side: what it is owed still goes to it, if it is there."""
        if self.encrypted:  # with its side both end, and nothing goes out behind this
            self.flush()
        if self.tunnel is not None:
            self.tunnel.client_ended()
            return not self.encrypted
        if self.encrypted:
            return False
        if self.standing is Standing.READING:
            self.advance()  # what came with it from another worker may not have been read yet
        owed = self.standing is Standing.EXCHANGING or (self.standing is Standing.READING and not self.writable)
        if not owed:
            self.close()
            return False
        self._ended = True
        self.advance()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._registry.discard(self)
        self._transport = None
        self.drop()
        departing, self._departing = self._departing, None
        if departing is not None:
            successors, connection, ahead = departing
            successors.give(connection, ahead)
        if self.standing is not Standing.CLOSED:
            self._go(Standing.CLOSED)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.client_lost()

    def pause_writing(self) -> None:
        self.writable = False
        self._blocked_until = self._engine.clock + self._engine.limits.slow_reader
        self._tell_writable()

    def resume_writing(self) -> None:
        self.writable = True
        self._blocked_until = inf
        self._tell_writable()
        self.advance()

    def _tell_writable(self) -> None:
        if self.tunnel is not None:
            self.tunnel.client_writable(self.writable)
        elif self.exchange is not None:
            self.exchange.client_writable(self.writable)

    # -- reading --------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Read as far as there is somewhere for it to go."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._read_event():
                pass
        finally:
            self._advancing = False
        self.pace()

    def _read_event(self) -> bool:
        """Read one event and act on it; False when there is none, or none is wanted yet."""
        self._hungry = False
        if not self._wants_more():
            return False
        exchange = self.exchange
        try:
            event = self.reader.next_event()
        except Malformed as fault:
            self._malformed(fault)
            return False
        if event is None:
            self._hungry = True
            if exchange is not None and self.standing is Standing.EXCHANGING:
                exchange.request_announced()
            return False
        if self.standing is Standing.DISCARDING:
            if isinstance(event, End):
                self._next()
        elif exchange is None:
            head = cast("RequestHead", event)
            return self._begin(head, self._engine.dispatcher.destination(head))
        elif isinstance(event, End):
            exchange.request_end(event)
        else:
            exchange.request_data(cast("bytes", event))
        return True

    def _wants_more(self) -> bool:
        """Whether the next event of the client's has somewhere to go."""
        exchange = self.exchange
        match self.standing:
            case Standing.READING:
                return self.writable
            case Standing.EXCHANGING:
                return exchange is not None and not exchange.request_complete and exchange.wants_body
            case Standing.DISCARDING:
                return True
            case _:
                return False

    def _begin(self, head: RequestHead, to: Destination | Refused, body: bytes | None = None) -> bool:
        """Answer a request, whose whole body may be here; whether there may be more to read, for it or the next one."""
        engine = self._engine
        self._keep_alive = head.keep_alive and not engine.draining
        complete = body is not None
        if head.length == 0 and not complete:
            self.reader.next_event()  # its End
            complete = True
        if isinstance(to, Refused):
            return self._refused(head, to, to, complete=complete)
        if to.terms.edge is not None and to.terms.edge.verifies:
            return self._verify(head, to, complete=complete)
        judged, turn = self._judge(head, to)
        if isinstance(judged, Refused):
            return self._refused(head, to, judged, complete=complete, turn=turn)
        self._go(Standing.EXCHANGING)
        exchange = self.exchange = Exchange(engine, self, head, to, complete=complete, turn=turn)
        if isinstance(judged, OwnAnswer):
            exchange.answer(judged)
        else:
            exchange.start(judged, body or b"")
        return exchange.phase is Phase.OVER or not exchange.request_complete

    def _judge(self, head: RequestHead, to: Destination) -> tuple[Judged | OwnAnswer, Turn | None]:
        """What becomes of a call, by what stands at the edge and then by the guard; and its turn at the limits."""
        engine, edge = self._engine, to.terms.edge
        own = None if edge is None else edge.own_answer(head, engine.dispatcher.client(head, self.peer))
        if own is not None:
            return own, None
        call = engine.dispatcher.call(head, to, self.peer)
        return engine.guard.check(call), call.turn

    def _verify(self, head: RequestHead, to: Destination, *, complete: bool) -> bool:
        """Answer a question of forward auth."""
        engine, peer = self._engine, self.peer
        question = forward_auth.asked(head, to.target, peer)
        asked = head if isinstance(question, Refused) else question
        found = question if isinstance(question, Refused) else engine.dispatcher.destination(question)
        judged: Judged
        turn: Turn | None = None
        if isinstance(found, Refused):
            judged = found
        elif found.own:
            judged = forward_auth.OUR_OWN
        else:
            to = found
            decided, turn = self._judge(asked, to)
            judged = PUBLIC if isinstance(decided, OwnAnswer) else decided
        self._go(Standing.EXCHANGING)
        exchange = self.exchange = Verification(engine, self, head, asked, to, complete=complete, turn=turn)
        exchange.start(judged, b"")
        return exchange.phase is Phase.OVER or not exchange.request_complete

    def _refused(
        self,
        head: RequestHead,
        to: Destination | Refused,
        refused: Refused,
        *,
        complete: bool,
        turn: Turn | None = None,
    ) -> bool:
        """Answer at once what goes nowhere; whether there may be more to read."""
        engine, route = self._engine, None
        if isinstance(to, Refused):
            request_id = engine.new_request_id()
        else:
            request_id, route = engine.request_id(head, self.peer, to), to.route
        if not (complete or self._rest_is_small(head)):
            self._keep_alive = False
        engine.log_refusal(refused, self.peer, request_id, head, route)
        if isinstance(to, Refused):
            lines = engine.dispatcher.lines_of_refusal(head, to)
        else:
            lines = b"" if to.terms.edge is None else to.terms.edge.lines_of_refusal(head)
        if turn is not None:
            lines += lines_of(turn.fields)
        sent = self._answer(refused, head, request_id, lines)
        self._tell(refused, request_id, head, route, sent)
        self._answered(head, complete=complete)
        return True

    def _malformed(self, fault: Malformed) -> None:
        self._keep_alive = False
        if self.standing is Standing.DISCARDING:
            self.linger()
        elif self.exchange is not None:
            self.exchange.fail(malformed(fault))
        else:
            self._refuse_unread(malformed(fault))

    def _refuse_unread(self, refused: Refused) -> None:
        """Answer a request whose head never came, or cannot be read."""
        engine, request_id = self._engine, self._engine.new_request_id()
        self._keep_alive = False
        engine.log_refusal(refused, self.peer, request_id, None, None)
        sent = self._answer(refused, None, request_id)
        self._tell(refused, request_id, None, None, sent)
        self.linger()

    def _tell(
        self, refused: Refused, request_id: bytes, head: RequestHead | None, route: Route | None, sent: int
    ) -> None:
        engine = self._engine
        engine.calls.count(route, b"" if head is None else head.method, refused.status, 0.0)
        remember = engine.decisions.wants(refused.why, 0.0)
        if remember or engine.listeners:
            client = self.peer.address if head is None else engine.dispatcher.client(head, self.peer)
            finished = Finished.refused_at_once(refused, request_id, head, self.peer, client, route, sent)
            engine.tell(finished, remember=remember)

    def pace(self) -> None:
        """Let the kernel hold what nobody wants yet, and see to the deadline of what is awaited."""
        if self.standing >= Standing.TUNNELLING:
            return
        if self._ended and self._hungry:
            self._cut_short()
            return
        engine, exchange = self._engine, self.exchange
        if not self._hungry and self.reader.buffered >= engine.limits.buffer:
            self.pause()
        elif not self._reading and (exchange is None or not isinstance(exchange.pump, Upload)):
            self.resume()
        if self.standing is Standing.READING:
            self._await_head()
        elif self._wants_more():
            self._deadline = engine.clock + engine.limits.body_idle
        else:
            self._deadline = inf

    def _cut_short(self) -> None:
        """The client has ended its side within a request."""
        if self.exchange is None:
            self.linger()
        else:
            self._keep_alive = False
            self.exchange.fail(Refused("invalid_request", "The connection ended before the request did."))

    def _await_head(self) -> None:
        """A head has its time from its first byte on, however it drips; before it, the connection may rest."""
        engine = self._engine
        if not self.writable:
            self._deadline = inf
        elif self.reader.buffered:
            if not self._head_begun:
                self._head_begun = True
                self._deadline = engine.clock + engine.limits.head
        elif self._deadline == inf:
            self._deadline = engine.clock + engine.limits.keep_alive

    # -- writing --------------------------------------------------------------------------------------------------

    def persistence(self, head: RequestHead | None, *, until_close: bool = False) -> bytes:
        """The Connection line of an answer, if it needs one; only the connection's end ends one `until_close`.

        An answer may come before its request is here whole. If the rest will not be read to its end, the client must
        know that it cannot send another request behind it (RFC 9112, sections 9.3 and 9.6).
        """
        exchange = self.exchange
        if exchange is not None and not exchange.request_complete and not self._rest_is_small(exchange.head):
            self._keep_alive = False
        leaves = self.bound and self._engine.successors is not None
        if until_close or not self._keep_alive or self._engine.draining or leaves:
            self._keep_alive = False
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if head is not None and head.minor_version == 0 else b""

    def refuse(self, exchange: Exchange, refused: Refused) -> int:
        """Answer in the upstream's place; the bytes of the answer's body."""
        head = exchange.head
        route, allowed = exchange.to.route, exchange.allowed
        self._engine.log_refusal(refused, self.peer, exchange.request_id, exchange.call_head, route, allowed)
        edge = exchange.to.terms.edge
        lines = b"" if edge is None else edge.lines_of_refusal(head)
        if exchange.turn is not None:
            lines += lines_of(exchange.turn.fields)
        return self._answer(refused, head, exchange.request_id, lines, exchange.call_head)

    def _answer(
        self,
        refused: Refused,
        head: RequestHead | None,
        request_id: bytes,
        lines: bytes = b"",
        call: RequestHead | None = None,
    ) -> int:
        """Send a refusal; the bytes of its body. `call` is the head of the call that is refused, where another proxy
        asked about it."""
        engine = self._engine
        page = engine.refusal_page if head is not None and not refused.location and prefers_html(head) else None
        bodiless = head is not None and head.method == b"HEAD"
        lines += self.persistence(head)
        answer, body = render(refused, request_id, engine.date, lines, page, call or head, bodiless=bodiless)
        self.write(answer + body)
        return len(body)

    # -- the end of an exchange, and of the connection ------------------------------------------------------------

    def exchange_over(self, exchange: Exchange) -> None:
        """The answer has gone out whole."""
        if exchange is self.exchange:
            self.exchange = None
            self._answered(exchange.head, complete=exchange.request_complete)

    def _answered(self, head: RequestHead, *, complete: bool) -> None:
        """Go on behind an answer that has gone out whole; of its request, something may have yet to come."""
        if not self._keep_alive or self._transport is None:
            self.linger()
        elif complete:
            self._next()
        elif self._rest_is_small(head):
            self._go(Standing.DISCARDING)
            self.advance()
        else:
            self.linger()

    def _next(self) -> None:
        engine = self._engine
        if engine.successors is not None and self._keep_alive and not (self._ended or self.bound):
            self._depart(engine.successors)
            return
        ends = self._ended or engine.draining  # unless something is here already
        if not self._keep_alive or (ends and not self.reader.buffered):
            self.linger()
            return
        if self.standing is not Standing.READING:
            self._go(Standing.READING)
        self._head_begun = False
        if self.reader.next_request():
            self._hungry = True
            self._deadline = engine.clock + engine.limits.keep_alive
            if not self._reading:
                self.resume()
        else:
            self._deadline = inf
            self.advance()

    def _rest_is_small(self, head: RequestHead) -> bool:
        """Whether reading a request to its end costs less than a new connection, and its end is sure to come. Once that
        is so it stays so, as what is left becomes less."""
        rest = self.reader.rest
        return rest is not None and rest <= self._engine.limits.discard and not head.expects_continue

    @property
    def under_way(self) -> Exchange | None:
        """The exchange that goes on, also where it has become a tunnel."""
        return self.exchange if self.tunnel is None else cast("Exchange", self.tunnel.opened)

    def tunnelled(
        self, exchange: Exchange, upstream: UpstreamConnection, allowed: Allowed, conversation: Conversation | None
    ) -> None:
        """The exchange ended in a change of protocol."""
        if exchange is not self.exchange:
            upstream.discard()
            exchange.tunnel_over(upstream, 0, 0, None, complete=False)
            return
        self.exchange = None
        self._go(Standing.TUNNELLING)
        tunnel = self.tunnel = Tunnel(self, upstream, self._engine, exchange, allowed, conversation)
        self._deadline = inf
        self.resume()
        if tunnel.start(self.reader.unread(), upstream.reader.unread()) and self._ended:  # the upstream has to be told
            tunnel.client_ended()

    def linger(self) -> None:
        """End the connection so that the client can still read the answer (RFC 9112, section 9.6)."""
        transport = self._transport
        if self.standing >= Standing.LINGERING or transport is None:
            return
        self._go(Standing.LINGERING)
        self.tunnel = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()
        if self._ended or not transport.can_write_eof():
            self.close()
            return
        self.write_eof()
        self.resume()
        self._deadline = self._engine.clock + self._engine.limits.linger

    def drain(self) -> None:
        """End the connection if it rests, or leave it to the workers that follow. Where none do, nobody else can answer
        the request that a new one was taken for."""
        if not self.idle:
            return
        if self._engine.successors is not None and self.bound:
            self._head_begun = False
            self._deadline = self._engine.clock + self._engine.limits.leaving
        elif self._engine.successors is not None:
            self._depart(self._engine.successors)
        elif self._head_begun:
            self._head_begun = False
            self._deadline = self._engine.clock + self._engine.limits.newcomer
        else:
            self.close()

    def _depart(self, successors: Handover) -> None:
        """Leave the connection to another worker, once what was written has gone out."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        try:
            connection = duplicate(transport)
        except OSError:  # there is no descriptor left
            self.linger()
            return
        self._departing = successors, connection, self.reader.unread()
        self.close()

    def arrive(self) -> None:
        """Go on, between two requests, where another worker has left the connection."""
        if self.reader.buffered:
            self.advance()
        elif self.idle:
            self._head_begun = False
            limits = self._engine.limits
            self._deadline = self._engine.clock + (limits.newcomer if self._engine.draining else limits.keep_alive)

    def abort(self) -> None:
        """End the connection at once so that it looks broken."""
        if self._departing is not None:
            os.close(self._departing[1])
            self._departing = None
        super().abort()

    def close(self) -> None:
        """End the connection once what was written has gone out, or the client has not taken it for so long."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            if self.standing < Standing.LINGERING:
                self._go(Standing.LINGERING)
            self.tunnel = None
            self._deadline = self._engine.clock + self._engine.limits.slow_reader
            transport.close()

    def break_off(self, *, looks_broken: bool) -> None:
        """End an answer that cannot be finished. Where only the connection's end would end it, with a reset, and where
        a zero went ahead, which with the end behind it some take for the last chunk."""
        if self.standing >= Standing.LINGERING or self._transport is None:
            return
        self._go(Standing.LINGERING)
        self.exchange = None
        (self.close if looks_broken and not self._ahead else self.abort)()

    @property
    def bound(self) -> bool:
        """Whether no other worker can go on with it: TLS, and who was introduced, are known to this one alone."""
        return self.encrypted or self.introduced

    @property
    def idle(self) -> bool:
        """Nothing of a request is here and no answer is owed."""
        return self.standing is Standing.READING and not self.reader.buffered

    def tick(self, now: float) -> None:
        """Look whether anything waited for is overdue."""
        if self.tunnel is not None:
            if self.tunnel.goes_on(now) and now >= self._blocked_until:
                self.tunnel.close()
        elif now >= self._blocked_until:
            self.abort()
        elif now >= self._deadline:
            self._overdue()
        elif self.exchange is not None:
            if not self.exchange.goes_on(now):
                return
            if now >= self.exchange.deadline or now >= self.exchange.ends_at:
                self.exchange.expire()
            elif self._ended or self._unread(self.exchange):
                self.look(now, self.exchange.ahead)

    def _unread(self, exchange: Exchange) -> bool:
        """Whether nobody would see the client end its side."""
        return not self._reading and (exchange.request_complete or not exchange.wants_body)

    def _overdue(self) -> None:
        if self._transport is not None and self._transport.is_closing():
            self.abort()
        elif self.exchange is not None:
            self._keep_alive = False
            self.exchange.fail(BODY_LATE)
        elif self.standing is Standing.READING and not self.idle:
            self._refuse_unread(Refused("request_timeout", "The request's head did not arrive in time."))
        else:
            self.close()
