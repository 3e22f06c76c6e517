"""One request and its answer: judged, forwarded, relayed.

    JUDGING ──► HOLDING ──► CONNECTING ──► SENDING ──► RELAYING ──► OVER
       │           │             │            │            │
       └───────────┴─────────────┴────────────┴──► refusal │ (no byte of an answer has gone out)
                                              └────────────┴──► aborted: the client sees a broken message

JUDGING waits for the guard; HOLDING for the first chunk of a chunked body, since nothing of a request whose
beginning is bad may reach an upstream, for a whole form to the authorization plane, whose few connections nobody may
keep by sending slowly, or for a body whose hash was signed (`proxy.checked`: JUDGING follows once more); SENDING for
the answer's head while the body goes up; RELAYING passes the answer down, and the rest of the body up. Each side's
pace is the other's: what one does not take, the other is not asked for. Nothing here awaits; what must wait is parked
and calls back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Any, Literal, cast

from gateway.errors import StoreUnavailable
from gateway.guard import Allowed, BodyAwaited, Pending, Refused, Verdict
from gateway.http1 import END, End, Field, Malformed, RequestHead, ResponseHead
from gateway.model import Identity
from gateway.observe import get_logger
from gateway.proxy.answers import NO_DATABASE, last_chunk, refusal, too_large, too_slow
from gateway.proxy.checked import CheckedBody
from gateway.proxy.dispatch import EXPECT, Plan, identity_fields
from gateway.proxy.pump import Download, Pump, Upload, worthwhile
from gateway.proxy.relay import ANSWER_BEGINS, Relay
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.upstream import UpstreamConnection, UpstreamUnreachable

if TYPE_CHECKING:
    from gateway.proxy.front import Front

_log = get_logger("gateway.proxy")


State = Literal["judging", "holding", "connecting", "sending", "relaying", "over"]
"""Where an exchange stands; the diagram is at the head of this file."""


class Exchange:
    """One request and its answer, between a front and a connection to an upstream."""

    __slots__ = (
        "_allowed",
        "_body_size",
        "_checked",
        "_front",
        "_held",
        "_parked",
        "_plan",
        "_proxy",
        "_relay",
        "_request_trailers",
        "_unread",
        "_upstream",
        "deadline",
        "head",
        "pump",
        "request_complete",
        "request_id",
        "state",
    )
    _plan: Plan  # from `start` on

    def __init__(self, front: "Front", head: RequestHead, complete: bool) -> None:
        self.head = head
        self.request_id = front.proxy.new_request_id()
        self.request_complete = complete
        self.pump: Pump | None = None  # while the rest of a large body passes in the kernel
        self.deadline = inf
        self.state: State = "judging"
        self._front = front
        self._proxy = front.proxy
        self._allowed: Allowed | None = None
        self._upstream: UpstreamConnection | None = None
        self._parked: asyncio.Future[Any] | None = None
        self._held = b""
        self._body_size = 0
        self._checked: CheckedBody | None = None  # the body, while it is not known to be the one that was signed
        self._request_trailers: tuple[Field, ...] = ()
        self._relay: Relay | None = None  # of the answer, where it does not come whole
        self._unread = True  # nothing has come from the upstream yet

    # -- judging ------------------------------------------------------------------------------------------------

    def start(self, verdict: Verdict | Pending[Verdict] | None, body: bytes) -> None:
        """Take the request where its plan says, past the guard if that has not given its verdict yet.

        `body` is what is here of a whole request's.
        """
        if body:
            self._held, self._body_size = body, len(body)
        proxy = self._proxy
        plan = self.head.plan
        if not isinstance(plan, Plan):
            self._front.refuse(self, cast("Refused", plan))
            return
        self._plan = plan
        if plan.request_id is not None:
            self.request_id = plan.request_id
        if not plan.guarded:
            self._permitted(None)
            return
        judged = verdict or proxy.guard.examine(proxy.dispatcher.call(self.head, plan))
        if isinstance(judged, Allowed):
            self._permitted(judged)
        elif isinstance(judged, Refused | BodyAwaited):
            self._judged(judged)
        elif isinstance(judged, Pending):
            judged.then(self._told)
        else:
            self._park(judged, self._judged)

    def _told(self, pending: Pending[Verdict]) -> None:
        """What became of the nonce, while many others are told too."""
        if self.state == "over":
            return
        try:
            self._judged(pending.result())
        except Exception as exc:
            self._failed(exc)

    def _judged(self, verdict: Verdict | BodyAwaited) -> None:
        if isinstance(verdict, Refused):
            self._front.refuse(self, verdict)
        elif isinstance(verdict, Allowed):
            self._permitted(verdict)
        else:
            self._checked = CheckedBody(verdict, self, self._proxy.limits.buffer)
            here, self._held = self._held, b""
            self._permitted(None)
            if here and self.state == "holding":
                self._checked.data(here)
                self._checked.end()

    def _permitted(self, allowed: Allowed | None) -> None:
        self._allowed = allowed
        length, checked = self.head.length, self._checked
        form_to_come = self._plan.own and not self.request_complete
        if length is not None and length > self._plan.route.max_body:
            self._front.refuse(self, too_large(self._plan.route.max_body))
        elif length is None or form_to_come or (checked is not None and checked.holds(length)):
            self.state = "holding"
            if self.head.expects_continue:
                self._front.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._front.advance()
        elif checked is not None:
            checked.stream()
        else:
            self._connect()

    def judge(self, verdict: Awaitable[Verdict], then: Callable[[Verdict], None]) -> None:
        """Wait for the guard once more; the body waits too."""
        self.state = "judging"
        self._park(verdict, then)

    def release(self, allowed: Allowed, held: bytes) -> None:
        """The body may go up: all of it if all has come, else this beginning."""
        self._allowed, self._held = allowed, held
        if self.request_complete:
            self._checked = None
        self._connect()

    def _park(self, awaitable: Awaitable[Any], then: Callable[[Any], None]) -> None:
        """Wait for what cannot be had at once, then go on with `then`, unless the exchange is over."""
        self._parked = asyncio.ensure_future(awaitable)
        self._parked.add_done_callback(lambda done: self._woken(done, then))

    def _woken(self, done: "asyncio.Future[Any]", then: Callable[[Any], None]) -> None:
        self._parked = None
        if done.cancelled():
            return
        fault = done.exception()
        if self.state == "over":
            if fault is None and isinstance(late := done.result(), UpstreamConnection):
                late.release()
        elif fault is None:
            try:
                then(done.result())
            except Exception as exc:
                self._failed(exc)
        elif isinstance(fault, UpstreamUnreachable):
            description = "The upstream is busy." if fault.status == 503 else "The upstream cannot be reached."
            self._front.refuse(self, refusal(fault.status, description, cause=str(fault), upstream=fault.upstream))
        elif isinstance(fault, StoreUnavailable):
            said = "Tokens cannot be checked at the moment."
            self._front.refuse(self, refusal(503, said, cause=str(fault), mend=NO_DATABASE))
        else:
            self._log_fault(fault)
            self._front.refuse(self, refusal(500, "The gateway failed.", cause=repr(fault)))

    def _failed(self, fault: Exception) -> None:
        """Nobody above would hear of a fault of ours, and the client would wait for ever."""
        self._log_fault(fault)
        self.fail(refusal(500, "The gateway failed.", cause=repr(fault)))

    def _log_fault(self, fault: BaseException) -> None:
        _log.error(
            "unexpected failure, the call gets 500 or ends",
            request_id=self.request_id.decode(),
            route=self._plan.route.name,
            method=self.head.method.decode("latin-1"),
            exc_info=fault,
        )

    # -- the request, upwards -------------------------------------------------------------------------------------

    @property
    def wants_body(self) -> bool:
        """Whether the next part of the request's body has somewhere to go."""
        if self.state == "holding":
            return True
        upstream = self._upstream
        return upstream is not None and upstream.writable

    def request_data(self, data: bytes) -> None:
        """The next part of the request's body."""
        self._body_size += len(data)
        if self.request_announced():
            return
        if self._checked is not None:
            self._checked.data(data)
        elif self.state == "holding":
            self._held += data
            enough = self._front.reader.first_chunk_seen or len(self._held) >= self._proxy.limits.buffer
            if enough and not self._plan.own:
                self._connect()
        else:
            self.send_body(data)

    def request_announced(self) -> bool:
        """Whether the body goes beyond its route's bound, by what has come and what its chunk announces: refused."""
        limit = self._plan.route.max_body
        if self._body_size + self._front.reader.announced <= limit:
            return False
        self.fail(too_large(limit))
        return True

    def request_end(self, end: End) -> None:
        """The request is complete."""
        self.request_complete = True
        self._request_trailers = end.trailers
        if self._checked is not None:
            self._checked.end()
        elif self.state == "holding":
            self._connect()
        elif self.state != "connecting":
            self._send_end()

    def _connect(self) -> None:
        ready = self._proxy.upstreams.idle(self._plan.route, fresh=not self._plan.repeatable)
        if ready is not None:
            self._connected(ready)
        else:
            self._connect_anew()

    def _connect_anew(self) -> None:
        self.state = "connecting"
        self.deadline = inf  # the connecting has its own
        self._park(self._proxy.upstreams.connect(self._plan.route), self._connected)

    def _connect_again(self, lost: UpstreamConnection) -> None:
        """In the place of a connection that had been kept, and ended before it was of use."""
        lost.disappoint()
        self._connect_anew()

    def _connected(self, upstream: UpstreamConnection) -> None:
        if upstream.closed:
            if upstream.reused:  # by another exchange, and it ended before anything of this one went out
                self._connect_again(upstream)
            else:
                self._failed_upstream("The upstream closed the connection.", "closed at once", upstream)
            return
        head, plan, allowed = self.head, self._plan, self._allowed
        self._upstream = upstream
        self.state = "sending"
        identity = b"" if allowed is None else identity_fields(allowed.principal)
        if plan.passes_authorization:
            identity += b"".join(b"Authorization: " + value + b"\r\n" for value in head.authorization)
        held, self._held = self._held, b""
        top = plan.head.removesuffix(EXPECT) if held else plan.head  # what is held has been continued
        if held and head.length is None:
            held = b"%x\r\n%b\r\n" % (len(held), held)
        data = (top, b"X-Request-Id: ", self.request_id, b"\r\n", identity, plan.last, held)
        upstream.ask(self, head, b"".join(data))
        if self.request_complete:
            self._send_end()
        else:
            self.await_response()
            self._front.advance()

    def send_body(self, data: bytes) -> None:
        if self._upstream is None:
            return
        if self.head.length is None:
            self._upstream.write(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._upstream.write(data)
        self.await_response()
        if (
            self.pump is None
            and self._checked is None
            and self._upstream.writable
            and worthwhile(self._front.reader.unarrived, self._upstream)
        ):
            self.pump = Upload(self, self._front, self._upstream)

    def send_last(self, data: bytes) -> None:
        self._checked = None
        self.send_body(data)
        self._send_end()

    def _send_end(self) -> None:
        if self._upstream is not None and self.head.length is None:
            self._upstream.write(last_chunk(self._request_trailers))
        if self.state == "sending":
            self.deadline = self._proxy.clock + self._plan.route.timeout

    def await_response(self) -> None:
        """The upstream's time runs while it is the upstream's turn, not while the client is slow to send its body."""
        if self.state == "sending":
            asked = self.head.expects_continue and self._body_size == 0
            its_turn = self.request_complete or asked or not self.wants_body
            self.deadline = self._proxy.clock + self._plan.route.timeout if its_turn else inf

    # -- the response, downwards ----------------------------------------------------------------------------------

    def upstream_received(self, data: bytes) -> None:
        """Relay all that can be read, in one write."""
        upstream = self._upstream
        if upstream is None:
            return
        self._unread = False
        whole = upstream.reader.whole(data)
        if whole is None:
            upstream.reader.receive(data)
            self._read(upstream)
            return
        head, body = whole
        if head.rendered is not None and self._relay is None and self._front.usual(self.head):  # the common case
            self._front.write(b"".join((head.rendered, b"X-Request-Id: ", self.request_id, b"\r\n\r\n", body)))
            self._over(head)
        else:
            relay = self._relaying()
            relay.begin(head)
            relay.part(body)
            self._end(relay, END)

    def _relaying(self) -> Relay:
        if self._relay is None:
            self._relay = Relay(self._front, self.head, self.request_id, own=self._plan.own)
        return self._relay

    def _read(self, upstream: UpstreamConnection) -> None:
        reader, relay = upstream.reader, self._relaying()
        try:
            while (event := reader.next_event()) is not None:
                if isinstance(event, bytes):
                    relay.part(event)
                elif isinstance(event, End):
                    self._end(relay, event)
                    return
                elif event.status >= 200:
                    self.state = "relaying"
                    relay.begin(event)
                elif event.status == 101:
                    self._change_protocol(upstream, event)
                    return
                else:
                    self.await_response()
                    relay.interim(event)
        except Malformed as fault:
            self._failed_upstream("The upstream's answer is malformed.", fault.description, upstream)
            return
        relay.flush()
        if self.state == "relaying":
            self.renew_deadline()
            if not self._front.writable:
                self.client_writable(False)
            elif self.pump is None and worthwhile(reader.unarrived, upstream):
                self.pump = Download(self, self._front, upstream)

    def upstream_closed(self) -> None:
        upstream = self._upstream
        if self.state == "over" or upstream is None or isinstance(self.pump, Download):
            return  # or what came before the end is still being pumped, which comes to it by itself
        if upstream.reused and self._unread and self._plan.repeatable:
            # It had been idle, and died without a word: the upstream has most likely not even seen the request.
            self._upstream = None
            self._connect_again(upstream)
            return
        try:
            self._end(self._relaying(), upstream.reader.closed(cut=upstream.cut))
        except Malformed as fault:
            self._failed_upstream("The upstream's answer is incomplete.", fault.description, upstream)

    def upstream_writable(self, writable: bool) -> None:
        self.await_response()
        if writable:
            self._front.advance()

    def _end(self, relay: Relay, end: End) -> None:
        relay.end(end)
        self._over(cast("ResponseHead", relay.response))

    def _over(self, response: ResponseHead) -> None:
        """The answer has gone out whole."""
        upstream = self._upstream
        if self.request_complete and response.keep_alive and upstream is not None:
            self._upstream = None
            self.state = "over"
            self.deadline = inf
            upstream.give_back(self._proxy.clock)
        else:
            self._finish()
        self._front.exchange_over(self)

    def _change_protocol(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        """From here on the connection belongs to the new protocol."""
        if not self.request_complete:
            self._failed_upstream("The upstream changed the protocol within a request.", "101 too early", upstream)
            return
        self._relaying().switch(head)
        self.state = "over"
        self._upstream = None
        tunnel = Tunnel(self._front, upstream, self._proxy.now, self._proxy.limits, self._allowed)
        self._front.become_tunnel(tunnel, upstream.reader.unread())

    def renew_deadline(self) -> None:
        """Something of the answer has passed."""
        self.deadline = self._proxy.clock + self._proxy.limits.stream_idle

    @property
    def ahead(self) -> bytes:
        """What the next writing to the client begins with in any case, so that it can go first."""
        return ANSWER_BEGINS if self._relay is None else self._relay.ahead

    # -- the client, and the end ------------------------------------------------------------------------------------

    def client_writable(self, writable: bool) -> None:
        """The client takes bytes again, or has too many waiting."""
        if self._upstream is None:
            return
        if writable:
            if not isinstance(self.pump, Download):
                self._upstream.resume()
            self.renew_deadline()
        else:
            self._upstream.pause()
            self.deadline = inf  # the client's own deadline runs

    def expire(self) -> None:
        """Its deadline has passed."""
        place = "" if self._upstream is None else self._upstream.place
        if self.state == "sending":
            did_not = "gave no answer" if self.request_complete else "took no more of the body"
            route = self._plan.route
            self.fail(too_slow(place, did_not, route.timeout, f"timeout of route {route.name}"))
        else:
            self.fail(
                too_slow(place, "sent no more of its answer", self._proxy.limits.stream_idle, "no route's timeout")
            )

    def _failed_upstream(self, description: str, cause: str, upstream: UpstreamConnection) -> None:
        self.fail(refusal(502, description, cause=cause, upstream=upstream.place))

    @property
    def identity(self) -> Identity | None:
        """On whose behalf the call is made, once that is known."""
        return None if self._allowed is None else self._allowed.identity

    def fail(self, refused: Refused) -> None:
        """Refuse if no byte of an answer has gone out, else break it off so that it cannot look complete."""
        if self.state == "over":
            return
        self._finish()
        if self._relay is not None and self._relay.response is not None:
            self._proxy.log_refusal(self._front.peer, self.request_id, self.head, refused, self.identity)
            self._relay.break_off()
        else:
            self._front.refuse(self, refused)

    def cancel(self) -> None:
        """The client is gone: so is every trace of the exchange upwards."""
        self._finish()

    def _finish(self) -> None:
        if self._parked is not None and self.state == "connecting":
            self._parked.cancel()  # a question to the guard runs to its end: half-asked, it costs a connection
        self.state = "over"
        self.deadline = inf
        if self.pump is not None:
            self.pump.close()
            self.pump = None
        if self._upstream is not None:
            self._upstream.release()
            self._upstream = None
