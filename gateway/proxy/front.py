"""The front: the protocol on every client connection. It reads requests, one exchange at a time, in their order.

While an exchange is under way, what the client sends ahead waits in the reader, and above 64 KiB in the kernel.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, cast

from gateway.guard import Pending, Refused, Verdict
from gateway.http1 import End, Malformed, RequestHead, RequestReader
from gateway.model import Identity
from gateway.proxy.answers import malformed, prefers_html, refusal, render
from gateway.proxy.dispatch import Peer, Plan
from gateway.proxy.exchange import Exchange
from gateway.proxy.outlet import Outlet
from gateway.proxy.pump import Upload
from gateway.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from gateway.proxy import Proxy


class Front(Outlet, asyncio.BufferedProtocol):
    """One client connection."""

    __slots__ = (
        "_advancing",
        "_blocked_until",
        "_deadline",
        "_discarding",
        "_ended",
        "_head_begun",
        "_hungry",
        "_lingering",
        "_tunnel",
        "exchange",
        "keep_alive",
        "peer",
        "proxy",
        "reader",
        "writable",
    )

    def __init__(self, proxy: "Proxy") -> None:
        super().__init__()
        self.proxy = proxy
        self.reader = RequestReader()
        self.peer = Peer("", False)
        self.keep_alive = True
        self.writable = True
        self.exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._discarding = False  # the answer has gone out, the rest of a small request is read and dropped
        self._lingering = False  # the connection is ending; what still comes is dropped
        self._advancing = False
        self._hungry = True  # what is here is not enough for the next event
        self._head_begun = True  # a new connection has to bring one
        self._deadline = inf
        self._blocked_until = inf
        self._ended = False  # the client has ended its side, and all that it sent is here

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.proxy.limits.buffer)
        name = transport.get_extra_info("peername")
        self.peer = self.proxy.dispatcher.peer(str(name[0]) if isinstance(name, tuple) else "unix")
        limits = self.proxy.limits
        self._deadline = self.proxy.clock + (limits.newcomer if self.proxy.draining else limits.head)
        self.proxy.fronts.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the protocol's signature
        return self.proxy.received

    def buffer_updated(self, nbytes: int) -> None:
        data = self.proxy.received[:nbytes].tobytes()
        if self._lingering:
            return
        if self._tunnel is not None:
            self._tunnel.client_received(data)
            return
        if self.exchange is None and self.writable and (whole := self.reader.whole(data)) is not None:
            self._hungry = False
            self._deadline = inf
            self._begin(*whole)
            return
        self.reader.receive(data)
        self.advance()

    def eof_received(self) -> bool:
        """The client has ended its side: what it is owed still goes to it, if it is there."""
        if self._tunnel is not None:
            self._tunnel.client_ended()
            return True
        owed = self.exchange is not None or not self.writable
        if self._lingering or self._discarding or not owed:
            self.close()
            return False
        self._ended = True
        self.advance()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.proxy.forget(self)
        self._transport = None
        self._lingering = True
        if self.exchange is not None:
            self.exchange.cancel()
            self.exchange = None
        if self._tunnel is not None:
            tunnel, self._tunnel = self._tunnel, None
            tunnel.reset()

    def pause_writing(self) -> None:
        self.writable = False
        self._blocked_until = self.proxy.clock + self.proxy.limits.slow_reader
        self._tell_writable()

    def resume_writing(self) -> None:
        self.writable = True
        self._blocked_until = inf
        self._tell_writable()
        self.advance()

    def _tell_writable(self) -> None:
        if self._tunnel is not None:
            self._tunnel.client_writable(self.writable)
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
        exchange = self.exchange
        self._hungry = False
        if exchange is None:
            if not self.writable or self._lingering or self._tunnel is not None:
                return False
        elif exchange.request_complete or not (self._discarding or exchange.wants_body):
            return False
        try:
            event = self.reader.next_event()
        except Malformed as fault:
            self._malformed(fault)
            return False
        if event is None:
            self._hungry = True
            if exchange is not None and not self._discarding:
                exchange.request_announced()
            return False
        if exchange is None:
            return self._begin(cast("RequestHead", event))
        if isinstance(event, End):
            if self._discarding:
                exchange.request_complete = True
                self._next()
            else:
                exchange.request_end(event)
        elif not self._discarding:
            exchange.request_data(cast("bytes", event))
        return True

    def _begin(self, head: RequestHead, body: bytes | None = None) -> bool:
        """Answer a request, whose whole body may be here; whether there may be more to read, for it or the next one."""
        self.keep_alive = head.keep_alive and not self.proxy.draining
        complete = body is not None
        if head.length == 0 and not complete:
            self.reader.next_event()  # its End
            complete = True
        verdict = self._seen_at_once(head)
        if complete and isinstance(verdict, Refused):  # the common case of `refuse`
            self._answer(verdict, head, self.proxy.new_request_id())
            self._next()
            return True
        exchange = self.exchange = Exchange(self, head, complete)
        exchange.start(verdict, body or b"")
        return self.exchange is not exchange or not exchange.request_complete

    def _seen_at_once(self, head: RequestHead) -> Verdict | Pending[Verdict] | None:
        """The guard's verdict where it is plain to see, or waits for a nonce only."""
        plan = head.plan or self.proxy.dispatcher.plan(head, self.peer, self.proxy.guard)
        if not isinstance(plan, Plan) or plan.door is None or len(head.authorization) != 1:
            return None
        return self.proxy.guard.enter(plan.door, head.authorization[0])

    def _malformed(self, fault: Malformed) -> None:
        exchange = self.exchange
        self.keep_alive = False
        if exchange is None:
            self.refuse(None, malformed(fault))
        elif self._discarding:
            self.linger()
        else:
            exchange.fail(malformed(fault))

    def pace(self) -> None:
        """Let the kernel hold what nobody wants yet, and see to the deadline of what is awaited."""
        if self._lingering or self._tunnel is not None:
            return
        if self._ended and self._hungry:
            self._cut_short()
            return
        if not self._hungry and self.reader.buffered >= self.proxy.limits.buffer:
            self.pause()
        elif not self._reading and (self.exchange is None or not isinstance(self.exchange.pump, Upload)):
            self.resume()
        exchange = self.exchange
        if exchange is None:
            self._await_head()
        elif exchange.request_complete or not (self._discarding or exchange.wants_body):
            self._deadline = inf
        else:
            self._deadline = self.proxy.clock + self.proxy.limits.body_idle

    def _cut_short(self) -> None:
        """The client has ended its side within a request."""
        if self.exchange is None or self._discarding:
            self.linger()
        else:
            self.keep_alive = False
            self.exchange.fail(refusal(400, "The connection ended before the request did."))

    def _await_head(self) -> None:
        """A head has its time from its first byte on, however it drips; before it, the connection may rest."""
        if not self.writable:
            self._deadline = inf
        elif self.reader.buffered:
            if not self._head_begun:
                self._head_begun = True
                self._deadline = self.proxy.clock + self.proxy.limits.head
        elif self._deadline == inf:
            self._deadline = self.proxy.clock + self.proxy.limits.keep_alive

    # -- writing --------------------------------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether the connection ends with the answer under way."""
        return not self.keep_alive or self.proxy.draining

    def usual(self, head: RequestHead) -> bool:
        """Whether an answer's head looks the same to the next request like this one."""
        return head.minor_version == 1 and self.keep_alive and not self.proxy.draining

    def persistence(self, head: RequestHead | None) -> tuple[bytes, ...]:
        """The Connection field of an answer, if it needs one."""
        if self.closing:
            self.keep_alive = False
            return (b"Connection: close",)
        if head is not None and head.minor_version == 0:
            return (b"Connection: keep-alive",)
        return ()

    def refuse(self, exchange: Exchange | None, refused: Refused) -> None:
        """Answer in the upstream's place. The connection stays if what is left of the request is small."""
        if exchange is None:
            self.keep_alive = False
            self._answer(refused, None, self.proxy.new_request_id())
            self.linger()
            return
        if not (exchange.request_complete or self._rest_is_small(exchange.head)):
            self.keep_alive = False
        self._answer(refused, exchange.head, exchange.request_id, exchange.identity)
        exchange.state = "over"
        self.exchange_over(exchange)

    def _answer(
        self, refused: Refused, head: RequestHead | None, request_id: bytes, identity: Identity | None = None
    ) -> None:
        proxy = self.proxy
        plan = None if head is None else head.plan
        if isinstance(plan, Plan):
            prefers_page = plan.prefers_page
            request_id = plan.request_id or request_id
        else:
            prefers_page = prefers_html(head)
        fields = () if head is not None and self.usual(head) else self.persistence(head)
        if refused.status == 405 and head is not None:
            fields += proxy.dispatcher.allowed_methods(head)
        proxy.log_refusal(self.peer, request_id, head, refused, identity)
        page = proxy.refusal_page if prefers_page else None
        bodiless = head is not None and head.method == b"HEAD"
        self.write(render(refused, request_id, proxy.date, fields, page, bodiless=bodiless))

    # -- the end of an exchange, and of the connection ------------------------------------------------------------

    def exchange_over(self, exchange: Exchange) -> None:
        """The answer has gone out whole."""
        if exchange is not self.exchange:
            return
        if not self.keep_alive or self._transport is None:
            self.linger()
        elif exchange.request_complete:
            self._next()
        elif self._rest_is_small(exchange.head):
            self._discarding = True
            self.advance()
        else:
            self.linger()

    def _next(self) -> None:
        self.exchange = None
        self._discarding = False
        ends = self._ended or self.proxy.draining  # unless something is here already
        if not self.keep_alive or (ends and not self.reader.buffered):
            self.linger()
            return
        self._head_begun = False
        if self.reader.next_request():
            self._hungry = True
            self._deadline = self.proxy.clock + self.proxy.limits.keep_alive
            if not self._reading:
                self.resume()
        else:
            self._deadline = inf
            self.advance()

    def _rest_is_small(self, head: RequestHead) -> bool:
        """Whether reading a request to its end costs less than a new connection, and its end is sure to come."""
        return head.length is not None and head.length <= self.proxy.limits.discard and not head.expects_continue

    def become_tunnel(self, tunnel: Tunnel, from_upstream: bytes) -> None:
        """The exchange ended in a change of protocol."""
        self.exchange = None
        self._tunnel = tunnel
        self._deadline = inf
        self.resume()
        tunnel.start(self.reader.unread(), from_upstream)
        if self._ended:  # the upstream has to be told
            tunnel.client_ended()

    def linger(self) -> None:
        """End the connection so that the client can still read the answer (RFC 9112, section 9.6)."""
        transport = self._transport
        if self._lingering or transport is None:
            return
        self._lingering = True
        if self.exchange is not None:
            self.exchange.cancel()
            self.exchange = None
        if self._ended or not transport.can_write_eof():
            self.close()
            return
        self.write_eof()
        self.resume()
        self._deadline = self.proxy.clock + self.proxy.limits.linger

    def drain(self) -> None:
        """End the connection if it rests. A new one was taken for its request, which no other worker can answer."""
        if not self.idle or self._lingering:
            return
        if self._head_begun:
            self._head_begun = False
            self._deadline = self.proxy.clock + self.proxy.limits.newcomer
        else:
            self.close()

    def close(self) -> None:
        """End the connection once what was written has gone out, or the client has not taken it for so long."""
        if self._transport is not None and not self._transport.is_closing():
            self._lingering = True
            self._tunnel = None
            self._deadline = self.proxy.clock + self.proxy.limits.slow_reader
            self._transport.close()

    def break_off(self, *, looks_broken: bool) -> None:
        """End an answer that cannot be finished. Where only the connection's end would end it, with a reset, and where
        a zero went ahead, which with the end behind it some take for the last chunk."""
        if self._lingering or self._transport is None:
            return
        self._lingering = True
        (self.close if looks_broken and not self._ahead else self.abort)()

    @property
    def idle(self) -> bool:
        """Nothing of a request is here and no answer is owed."""
        return self.exchange is None and self._tunnel is None and not self.reader.buffered

    @property
    def tunnel(self) -> Tunnel | None:
        return self._tunnel

    def tick(self, now: float) -> None:
        """Look whether anything waited for is overdue."""
        if self._tunnel is not None:
            if self._tunnel.expired(now) or now >= self._blocked_until:
                self._tunnel.close()
        elif now >= self._blocked_until:
            self.abort()
        elif now >= self._deadline:
            self._overdue()
        elif self.exchange is not None:
            if now >= self.exchange.deadline:
                self.exchange.expire()
            elif self._ended or self._unread(self.exchange):
                self.look(now, self.exchange.ahead)
        elif self._deadline - now < self.proxy.limits.keep_alive - self.proxy.limits.remember:
            self.reader.forget()

    def _unread(self, exchange: Exchange) -> bool:
        """Whether nobody would see the client end its side."""
        return not self._reading and (exchange.request_complete or not exchange.wants_body)

    def _overdue(self) -> None:
        if self._transport is not None and self._transport.is_closing():
            self.abort()
        elif self._lingering or self.idle:
            self.close()
        elif self.exchange is None:
            self.keep_alive = False
            self.refuse(None, refusal(408, "The request's head did not arrive in time."))
        else:
            self.keep_alive = False
            self.exchange.fail(refusal(408, "The request's body did not arrive in time."))
