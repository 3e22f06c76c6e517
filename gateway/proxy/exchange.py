"""One request and its answer: judged, forwarded, relayed.

    JUDGING ◀──▶ HOLDING ──▶ CONNECTING ◀──▶ SENDING ──▶ RELAYING ──▶ OVER

A request without a body, or with a small one that is here, goes on a kept connection from JUDGING to SENDING, and an
answer that comes whole from there to OVER. From every other phase OVER is a refusal while no byte of an answer has gone
out, and an answer that is broken off, so that the client sees it, once one has.

JUDGING waits for the guard; HOLDING for the first chunk of a chunked body, since nothing of a request whose
beginning is bad may reach an upstream, for a whole form to the authorization plane, whose few connections nobody may
keep by sending slowly, or for a body whose hash was signed (`proxy.signed_body`: then the guard is asked once more);
CONNECTING for a connection, also in place of a kept one that ended under the request; SENDING for the answer's head
while the body goes up; RELAYING passes the answer down, and the rest of the body up. Each side's
pace is the other's: what one does not take, the other is not asked for. Nothing here awaits; what must wait is parked
and calls back. Which phase may follow which is executed (`proxy.states`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Final, Protocol, cast

from gateway.errors import Cause, Refused
from gateway.figures import UPSTREAM_FAILURES, UPSTREAM_RETRIES
from gateway.guard import Allowed, Judged, Pending, Turn, Verdict
from gateway.guard.causes import expired
from gateway.guard.checks import in_group
from gateway.guard.refusing import no_answer
from gateway.guard.watch import Watched
from gateway.http1 import End, Field, Malformed, RequestHead, RequestReader, ResponseHead, websocket
from gateway.http1.websocket import Conversation
from gateway.model import Identity
from gateway.observe import get_logger
from gateway.proxy import pump
from gateway.proxy.answers import (
    BODY_LATE,
    DRAINED,
    ENDED,
    last_chunk,
    lines_of,
    out_of_reach,
    too_large,
    too_slow,
    wrong_handshake,
)
from gateway.proxy.calls import BROKEN, GONE, place_of
from gateway.proxy.dispatch import Destination, Peer
from gateway.proxy.edge import Edge, OwnAnswer, named
from gateway.proxy.engine import Engine
from gateway.proxy.finished import Finished
from gateway.proxy.forwarding import ANSWER_BEGINS, upstream_head
from gateway.proxy.relay import Recipient, Relay
from gateway.proxy.signed_body import CheckedBody
from gateway.proxy.states import PHASES, Phase
from gateway.proxy.upstream import UpstreamConnection, UpstreamUnreachable
from gateway.proxy.upstreams import Tries
from gateway.refusals import NO_DATABASE
from gateway.routing.fields import with_lines
from gateway.states import changed

# The refusal where a route has a JWT prove who calls, and no key has come from the database yet.
UNASSERTED: Final = Refused(
    "temporarily_unavailable",
    "The gateway cannot vouch for the caller at the moment; try again.",
    Cause.of("upstream", "no signing key yet", mend=NO_DATABASE),
)

_log = get_logger("gateway.proxy")


class Client(Recipient, pump.ClientSide, Protocol):
    """The client's connection, as an exchange uses it."""

    @property
    def peer(self) -> Peer:
        """Who is at its other end."""

    @property
    def reader(self) -> RequestReader:
        """Where the rest of the request comes from."""

    def write(self, data: bytes) -> None:
        """Send some bytes."""

    def hold(self, size: int) -> None:
        """Take so many bytes that the client has not taken before it is not writable."""

    def refuse(self, exchange: "Exchange", refused: Refused) -> int:
        """Answer in the upstream's place; the bytes of the answer's body."""

    def exchange_over(self, exchange: "Exchange") -> None:
        """Its answer has gone out whole."""

    def tunnelled(
        self, exchange: "Exchange", upstream: UpstreamConnection, allowed: Allowed, conversation: Conversation | None
    ) -> None:
        """From here on the connection belongs to the new protocol; `conversation` reads it where that is WebSocket."""


class Exchange:
    """One request and its answer, between a client and a connection to an upstream."""

    __slots__ = (
        "_answered_at",
        "_began",
        "_body_size",
        "_checked",
        "_client",
        "_engine",
        "_held",
        "_judged_at",
        "_parked",
        "_relay",
        "_request_trailers",
        "_right_ends_at",
        "_sent_at",
        "_tries",
        "_unread",
        "_unsent",
        "_upstream",
        "_watched",
        "allowed",
        "deadline",
        "ends_at",
        "head",
        "phase",
        "pump",
        "request_complete",
        "request_id",
        "to",
        "trace",
        "turn",
    )

    def __init__(
        self,
        engine: Engine,
        client: Client,
        head: RequestHead,
        to: Destination,
        *,
        complete: bool,
        turn: Turn | None = None,
    ) -> None:
        self.head: Final = head
        self.to: Final = to
        self.request_id: Final = engine.request_id(head, client.peer, to)
        self.request_complete = complete
        self.turn: Final = turn  # on a route with limits
        self.trace = None if engine.begin_trace is None else engine.begin_trace(head, client.peer)
        self.allowed: Allowed | None = None  # on whose behalf, once that is known
        self.pump: pump.Pump | None = None  # while the rest of a large body passes in the kernel
        self.deadline = inf
        total = to.terms.total_timeout
        self.ends_at: Final = engine.clock + total if total else inf
        self.phase = Phase.JUDGING
        self._engine: Final = engine
        self._client: Final = client
        self._upstream: UpstreamConnection | None = None
        self._parked: asyncio.Future[Any] | None = None
        self._tries: Tries | None = None  # where there is a choice of upstreams, or one has failed
        self._held = b""
        self._body_size = 0
        self._checked: CheckedBody | None = None  # the body, while it is not known to be the one that was signed
        self._request_trailers: tuple[Field, ...] = ()
        self._relay: Relay | None = None
        self._unread = True  # nothing has come from the upstream yet
        self._unsent = b""  # how the request begins, where that was on its way and has not gone out
        self._watched: Watched | None = None  # what lives longer than a tick is ended with its token
        self._right_ends_at = inf
        # When it came to each of its phases for the first time; 0.0 where it has not. The loop's time is too coarse.
        self._began: Final = monotonic()
        self._judged_at = self._sent_at = self._answered_at = 0.0

    def _go(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = changed(PHASES, self.phase, phase)

    # -- judging ------------------------------------------------------------------------------------------------

    def start(self, judged: Judged, body: bytes) -> None:
        """Go where the guard's verdict leads, which may be pending; `body` is what is here of a whole request's."""
        if body:
            self._held, self._body_size = body, len(body)
        self._judged(judged)

    def _judged(self, judged: Judged) -> None:
        if isinstance(judged, Allowed):
            self._permitted(judged)
        elif isinstance(judged, Refused):
            self.fail(judged)
        elif isinstance(judged, Pending):
            judged.then(self._verdict_came)
        else:
            self._checked = CheckedBody(judged, self, self._engine.limits.buffer)
            here, self._held = self._held, b""
            self._permitted(None)
            if here and self.phase is Phase.HOLDING:
                self._checked.data(here)
                self._checked.end()

    def _verdict_came(self, pending: Pending[Judged]) -> None:
        """What the database said, while many others are told too."""
        if self.phase is Phase.OVER:
            return
        try:
            self._judged(pending.result())
        except Exception as exc:  # noqa: BLE001  # none of those others' faults
            self._failed(exc)

    def _on_behalf(self) -> Allowed:
        """Whose call it is. Raises RuntimeError while the guard has not let it pass: then nothing goes up."""
        if self.allowed is None:
            raise RuntimeError("a call that the guard has not let pass was about to be passed on")
        return self.allowed

    def _permitted(self, allowed: Allowed | None) -> None:
        self.allowed = allowed
        length, checked, limit = self.head.length, self._checked, self.to.terms.max_body
        form_to_come = self.to.own and not self.request_complete
        if (wrong := wrong_handshake(self.head)) is not None:
            self.fail(wrong)
        elif length is not None and length > limit:
            self.fail(too_large(limit))
        elif checked is None and (edge := self.to.terms.edge) is not None and edge.answer is not None:
            self.answer(edge.answer)
        elif length is None or form_to_come or self._is_held(length) or (checked is not None and checked.holds(length)):
            self._go(Phase.HOLDING)
            self._judged_at = monotonic()
            if self.head.expects_continue:
                self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._client.advance()
        elif checked is not None:
            checked.stream()
        else:
            self._connect()

    def _is_held(self, length: int) -> bool:
        """Whether the route takes in a body of that length before it takes an upstream's connection."""
        return 0 < length <= self.to.terms.hold and not self.request_complete

    def await_verdict(self, verdict: Awaitable[Verdict], then: Callable[[Verdict], None]) -> None:
        """Wait for the guard once more; the body waits too."""
        self._go(Phase.JUDGING)
        self._park(verdict, then)

    def let_pass(self, allowed: Allowed, held: bytes) -> None:
        """The body may go up: all of it if all has come, else this beginning."""
        self.allowed, self._held = allowed, held
        if self.request_complete:
            self._checked = None
        edge = self.to.terms.edge
        if edge is not None and edge.answer is not None:
            self.answer(edge.answer)
        else:
            self._connect()

    @property
    def _asserts(self) -> bool:
        """Whether the route has a JWT prove who calls."""
        edge = self.to.terms.edge
        return edge is not None and edge.asserts_identity

    def _nameable(self, edge: Edge) -> Mapping[str, str | None]:
        """What a route's fields may name of the call."""
        if not edge.names_the_call:
            return {}
        address = self._engine.dispatcher.client(self.head, self._client.peer)
        return named(self.allowed, self.request_id, address)

    def answer(self, own: OwnAnswer) -> None:
        """Answer as the route does, in the upstream's place."""
        if own.whole:
            self._relay = Relay(self._client, self.head, self.request_id, self._engine.date, own=False)
        head, body = own.to(self.head.method, self.to.target)
        self._relaying().whole(head, body)
        self._answered(head)

    def _park(self, awaitable: Awaitable[Any], then: Callable[[Any], None]) -> None:
        """Wait for what cannot be had at once, then go on with `then`, unless the exchange is over."""
        self._parked = asyncio.ensure_future(awaitable)
        self._parked.add_done_callback(lambda done: self._woken(done, then))

    def _woken(self, done: "asyncio.Future[Any]", then: Callable[[Any], None]) -> None:
        self._parked = None
        if done.cancelled():
            return
        fault = done.exception()
        if self.phase is Phase.OVER:
            if fault is None and isinstance(late := done.result(), UpstreamConnection):
                late.discard()
        elif fault is None:
            try:
                then(done.result())
            except Exception as exc:  # noqa: BLE001  # nobody else would end the exchange
                self._failed(exc)
        elif isinstance(fault, UpstreamUnreachable):
            self.fail(out_of_reach(fault.status, str(fault), fault.upstream))
        else:
            self._failed(fault)

    def _failed(self, fault: BaseException) -> None:
        """A fault of ours: nobody above would hear of it, and the client would wait for ever."""
        _log.error(
            "unexpected failure, the call gets 500 or ends",
            request_id=self.request_id.decode(),
            route=self.to.route.name,
            method=self.head.method.decode("latin-1"),
            exc_info=fault,
        )
        self.fail(Refused("server_error", "The gateway failed.", repr(fault)))

    # -- the request, upwards -------------------------------------------------------------------------------------

    @property
    def wants_body(self) -> bool:
        """Whether the next part of the request's body has somewhere to go."""
        if self.phase is Phase.HOLDING:
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
        elif self.phase is Phase.HOLDING:
            self._held += data
            hold, held = self.to.terms.hold, len(self._held)
            begun = self._client.reader.first_chunk_seen or held >= self._engine.limits.buffer
            if (held > hold if hold else begun) and not self.to.own:
                self._connect()
        else:
            self.send_body(data)

    def request_announced(self) -> bool:
        """Whether the body goes beyond its route's bound, by what has come and what its chunk announces: refused."""
        limit = self.to.terms.max_body
        if self._body_size + self._client.reader.announced <= limit:
            return False
        self.fail(too_large(limit))
        return True

    def request_end(self, end: End) -> None:
        """The request is complete."""
        self.request_complete = True
        edge = self.to.terms.edge
        self._request_trailers = end.trailers if edge is None else edge.shape_trailer(end.trailers)
        if self._checked is not None:
            self._checked.end()
        elif self.phase is Phase.HOLDING:
            self._connect()
        elif self.phase is not Phase.CONNECTING:
            self._send_end()

    @property
    def _repeatable(self) -> bool:
        """Whether the request may be sent twice. A body is kept for that only where there are several upstreams."""
        if self.head.length == 0:
            return self.head.method in self.to.terms.repeatable
        tries = self._tries
        return tries is not None and tries.kept is not None

    def _connect(self) -> None:
        if self._asserts and not self._engine.can_assert:
            self.fail(UNASSERTED)
            return
        upstreams, to = self._engine.upstreams, self.to
        if to.terms.chooses:
            tries = self._tries = upstreams.tries(to.route, keeps=self._keeps_body)
            may_be_long = self.head.length is None and not self.request_complete  # and then it is kept no longer
            ready = tries.take_idle(fresh=may_be_long or not self._repeatable)
        else:
            ready = upstreams.take_idle(to.route, fresh=not self._repeatable)
        if ready is not None:
            self._connected(ready)
        else:
            self._connect_anew()

    def _connect_anew(self) -> None:
        self._go(Phase.CONNECTING)
        self._judged_at = self._judged_at or monotonic()
        self.deadline = inf  # the connecting has its own
        route, tries = self.to.route, self._tries
        self._park(self._engine.upstreams.connect(route) if tries is None else tries.connect(route), self._connected)

    def _connect_again(self, lost: UpstreamConnection) -> None:
        """In the place of a connection that had been kept, and ended before it was of use."""
        lost.disappoint()
        tries = self._tries
        if tries is not None:
            tries.avoid()
            self._take_up_again(tries)
        self._connect_anew()

    @property
    def _keeps_body(self) -> bool:
        """Whether to keep the body, since the request may be sent twice with it."""
        length, most = self.head.length, self._engine.limits.buffer
        short = self._checked is None and (length is None or length <= most)
        return short and self.head.method in self.to.terms.repeatable

    def _take_up_again(self, tries: Tries) -> None:
        """Hold what is kept of the body, as if it had just come."""
        if tries.kept:
            self._held = tries.taken_up()

    def _try_again(self, upstream: UpstreamConnection, cause: str, *, elsewhere: bool = False) -> bool:
        """Send a request once more that an upstream has failed; False where that may not be (RFC 9110, section 9.2.2).

        `elsewhere` is for one that would only fail again where it was: then there must be another upstream.
        """
        to, engine, tries = self.to, self._engine, self._tries
        if tries is None and to.terms.retries:
            tries = self._tries = engine.upstreams.tries(to.route, keeps=False)
        if tries is None:
            return False
        tries.fail(f"{upstream.place}: {cause}")
        unsent = self.phase is Phase.CONNECTING
        if not unsent and (tries.repeats >= to.terms.retries or not self._unread or not self._repeatable):
            return False
        if (elsewhere or unsent) and not tries.has_other(well=elsewhere):
            return False
        if not unsent:
            may = self.phase is Phase.SENDING and engine.upstreams.may_repeat(to.route, engine.calls.of(to.route))
            UPSTREAM_RETRIES.add(1.0, to.route.name, "sent" if may else "over budget")
            if not may:
                return False
            tries.repeat()
        UPSTREAM_FAILURES.add(1.0, place_of(upstream.place), "slow" if elsewhere else "failed")
        self._upstream = None
        upstream.discard()
        tries.avoid()
        self._take_up_again(tries)
        self._connect_anew()
        return True

    def _connected(self, upstream: UpstreamConnection) -> None:
        if upstream.closed:
            if upstream.reused:  # by another exchange, and it ended before anything of this one went out
                self._connect_again(upstream)
            else:
                self._failed_upstream("The upstream closed the connection.", "closed at once", upstream)
            return
        head, engine = self.head, self._engine
        self._upstream = upstream
        self._go(Phase.SENDING)
        self._sent_at = self._sent_at or monotonic()
        held, self._held = self._held, b""
        if held and self._tries is not None:
            self._tries.keep(held, engine.limits.buffer)
        unsent, self._unsent = self._unsent, b""
        upstream.ask(self, head.method, head.upgrade, unsent or self._beginning(held))
        if self.request_complete:
            self._send_end()
        else:
            self.await_response()
            self._client.advance()

    def _beginning(self, held: bytes) -> bytes:
        """What goes up first: the head, and what is held of the body."""
        engine, head, to = self._engine, self.head, self.to
        edge, allowed = to.terms.edge, self._on_behalf()
        data = upstream_head(
            head,
            to,
            engine.arrival(head, self._client.peer, to),
            self.request_id,
            allowed,
            self.trace,
            expects=not held,  # what is held has been called for
            shape=None if edge is None else edge.shape_request(self._nameable(edge)),
            assertion=engine.assertion(allowed, to) if self._asserts else b"",
        )
        if not held:
            return data
        return data + (b"%x\r\n%b\r\n" % (len(held), held) if head.length is None else held)

    def send_body(self, data: bytes) -> None:
        """Send a part of the body up."""
        upstream = self._upstream
        if upstream is None:
            return
        if self._tries is not None:
            self._tries.keep(data, self._engine.limits.buffer)
        if self.head.length is None:
            upstream.write(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            upstream.write(data)
        self.await_response()
        unarrived = self._client.reader.unarrived
        if (
            self.pump is None
            and self._checked is None
            and upstream.writable
            and pump.worthwhile(unarrived, self._client, upstream)
        ):
            self._body_size += unarrived
            if self._tries is not None:
                self._tries.keep_no_more()
            self.pump = pump.Upload(self, self._client, upstream, self._engine.pipes)

    def send_last(self, data: bytes) -> None:
        """Send the last part of the body up."""
        self._checked = None
        self.send_body(data)
        self._send_end()

    def _send_end(self) -> None:
        if self._upstream is not None and self.head.length is None:
            self._upstream.write(last_chunk(self._request_trailers))
        if self.phase is Phase.SENDING:
            self.deadline = self._engine.clock + self.to.terms.timeout

    def await_response(self) -> None:
        """The upstream's time runs while it is the upstream's turn, not while the client is slow to send its body."""
        if self.phase is Phase.SENDING:
            asked = self.head.expects_continue and self._body_size == 0
            its_turn = self.request_complete or asked or not self.wants_body
            self.deadline = self._engine.clock + self.to.terms.timeout if its_turn else inf

    def upload_ended(self) -> None:
        """What was to pass of the body in the kernel has passed, or goes on the usual way."""
        self.pump = None
        self._body_size -= self._client.reader.unarrived

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
        self._relaying().whole(head, body)
        self._answered(head)

    def _relaying(self) -> Relay:
        if self._relay is None:
            edge = self.to.terms.edge
            shape = None if edge is None else edge.shape_answer(self.head, self._nameable(edge))
            if self.turn is not None:
                shape = with_lines(shape, lines_of(self.turn.fields))
            self._relay = Relay(
                self._client, self.head, self.request_id, self._engine.date, own=self.to.own, shape=shape
            )
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
                    self._go(Phase.RELAYING)
                    self._answered_at = monotonic()
                    if self.to.terms.hold > self._engine.limits.buffer:
                        self._client.hold(self.to.terms.hold)
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
        if self.phase is Phase.RELAYING:
            self.renew_deadline()
            if not self._client.writable:
                self.client_writable(False)
            elif (
                self.pump is None
                and reader.unarrived > self.to.terms.hold
                and pump.worthwhile(reader.unarrived, self._client, upstream)
            ):
                relay.passed(reader.unarrived)
                self.pump = pump.Download(self, self._client, upstream, self._engine.pipes)

    def download_ended(self) -> None:
        """What was to pass of the answer in the kernel has passed, or goes on the usual way."""
        self.pump = None
        if self._relay is not None and self._upstream is not None:
            self._relay.passed(-self._upstream.reader.unarrived)

    def upstream_closed(self) -> None:
        """Nothing more comes from the upstream."""
        upstream = self._upstream
        if self.phase is Phase.OVER or upstream is None or isinstance(self.pump, pump.Download):
            return  # or what came before the end is still being pumped, which comes to it by itself
        unsent = upstream.unsent
        if upstream.reused and self._unread and (unsent or self._repeatable):
            # It had been idle, and died without a word: the upstream has most likely not even seen the request.
            self._upstream, self._unsent = None, unsent
            self._connect_again(upstream)
            return
        try:
            self._end(self._relaying(), upstream.reader.closed(cut=upstream.cut))
        except Malformed as fault:
            cause = upstream.fault or fault.description
            self._failed_upstream("The upstream's answer is incomplete.", cause, upstream)

    def upstream_writable(self, writable: bool) -> None:
        """The upstream takes more of the body, or has too much waiting."""
        self.await_response()
        if writable:
            self._client.advance()

    def _end(self, relay: Relay, end: End) -> None:
        """The last part of the answer is here."""
        relay.end(end)
        self._answered(cast("ResponseHead", relay.response))

    def _answered(self, response: ResponseHead) -> None:
        """The answer has gone out whole."""
        upstream = self._upstream
        if self.request_complete and response.keep_alive and upstream is not None:
            self._upstream = None
            upstream.give_back(self._engine.clock)
        self._finish(response.status, upstream=upstream)
        self._client.exchange_over(self)

    def _change_protocol(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        """From here on the connection belongs to the new protocol."""
        if not self.request_complete:
            self._failed_upstream("The upstream changed the protocol within a request.", "101 too early", upstream)
            return
        conversation = None
        if self.head.upgrade == websocket.PROTOCOL:
            deflated = websocket.deflates(self.head.fields, head.fields)
            if deflated is None:
                fault = "agreed to an extension that was not offered"
                self._failed_upstream("The upstream's answer is malformed.", fault, upstream)
                return
            conversation = Conversation(self.to.terms.max_message, deflated=deflated)
        self._answered_at = monotonic()
        self._relaying().switch(head)
        self._upstream = None
        self._let_go()
        if self._tries is not None:
            self._tries.succeed()
        self._client.tunnelled(self, upstream, self._on_behalf(), conversation)

    def renew_deadline(self) -> None:
        """Something of the answer has passed."""
        self.deadline = self._engine.clock + self.most_idle

    # -- what lives on --------------------------------------------------------------------------------------------

    @property
    def most_idle(self) -> float:
        """How long it may rest, in seconds."""
        return self.to.terms.idle_timeout or self._engine.limits.stream_idle

    @property
    def stays(self) -> float:
        """How long it may go on where another worker takes this one's place, in seconds."""
        return self.to.terms.drain

    @property
    def let_pass_at(self) -> float:
        """When the guard let it pass, by the monotonic clock; 0.0 while it has not."""
        return self._judged_at or self._sent_at

    @property
    def call_head(self) -> RequestHead:
        """The head of the call itself, where another proxy asks about it in a request of its own."""
        return self.head

    @property
    def _is_endless(self) -> bool:
        """Whether nothing says when it will end: an answer, or a body on its way up, without a length."""
        if not self.request_complete and self.head.length is None:
            return True
        return self._relay is not None and (response := self._relay.response) is not None and response.length is None

    def goes_on(self, now: float) -> bool:
        """Whether it may go on, as of a tick; else it is ended. What lives for so long is ended when its token is, in
        whatever phase; when that only expires, what has an end by itself still comes to it."""
        allowed = self.allowed
        if self._watched is None and allowed is not None and allowed.digest:
            self._watched = self._engine.guard.watch.add(allowed, self._end_with_right, self.may_go_on)
            self._right_ends_at = self._engine.right_ends_at(allowed)
        if allowed is not None and now >= self._right_ends_at and self._is_endless:
            self._end_with_right(expired(allowed.scheme), None)
            return False
        if now >= self._engine.streams_end(self.stays) and self._is_endless:
            self.fail(DRAINED)
            return False
        return True

    def may_go_on(self, allowed: Allowed) -> bool:
        """Whether the person behind it may still call the route, by what is known of them now."""
        return in_group(self.to.route, self.call_head.method.decode("latin-1"), allowed)

    def _end_with_right(self, cause: Cause | None, identity: Identity | None) -> None:
        self.fail(self.right_ended(cause, identity))

    def right_ended(self, cause: Cause | None, identity: Identity | None) -> Refused:
        """The refusal that says why its token is not good any more."""
        call = self._engine.dispatcher.call(self.head, self.to)
        return self._engine.guard.ended(call, self._on_behalf(), cause, identity)

    def tunnel_over(
        self, upstream: UpstreamConnection, received: int, sent: int, refused: Refused | None, *, complete: bool
    ) -> None:
        """What it opened has ended, after so many bytes up and down; `refused` says why the gateway has ended it."""
        self._body_size, relay = received, self._relaying()
        relay.passed(sent)
        if refused is not None:
            engine, client = self._engine, self._client
            engine.log_refusal(refused, client.peer, self.request_id, self.head, self.to.route, self.allowed)
        self._tell(101, refused, complete=complete, upstream=upstream)

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
            if not isinstance(self.pump, pump.Download):
                self._upstream.resume()
            self.renew_deadline()
        else:
            self._upstream.pause()
            self.deadline = inf  # the client's own deadline runs

    def expire(self) -> None:
        """Its deadline has passed."""
        upstream, name = self._upstream, self.to.route.name
        place = "" if upstream is None else upstream.place
        limit = f"total_timeout of route {name}"
        if self._engine.clock >= self.ends_at and self.phase is Phase.JUDGING:
            self.fail(no_answer(f"store: it said nothing of the call within {limit}"))
        elif self._engine.clock >= self.ends_at and self.phase is Phase.HOLDING:
            self.fail(BODY_LATE)
        elif self._engine.clock >= self.ends_at:
            self.fail(too_slow(place, "was not done", self.to.terms.total_timeout, limit))
        elif self.phase is Phase.SENDING:
            did_not = "gave no answer" if self.request_complete else "took no more of the body"
            if upstream is None or not self._try_again(upstream, f"it {did_not} in time", elsewhere=True):
                self.fail(too_slow(place, did_not, self.to.terms.timeout, f"timeout of route {name}"))
        else:
            if self._tries is not None:
                self._tries.fail(f"{place}: it sent no more of its answer")
            self.fail(too_slow(place, "sent no more of its answer", self.most_idle, f"idle_timeout of route {name}"))

    def _failed_upstream(self, description: str, cause: str, upstream: UpstreamConnection) -> None:
        if not self._try_again(upstream, cause):
            self.fail(Refused("bad_gateway", description, cause, upstream=upstream.place))

    def fail(self, refused: Refused) -> None:
        """Refuse if no byte of an answer has gone out, else break it off so that it cannot look complete."""
        if self.phase is Phase.OVER:
            return
        relay = self._relay
        if relay is not None and relay.response is not None:
            self._finish(relay.response.status, refused, complete=False)
            engine, client = self._engine, self._client
            engine.log_refusal(refused, client.peer, self.request_id, self.head, self.to.route, self.allowed)
            relay.break_off()
        else:
            upstream = self._let_go()
            try:
                sent = self._client.refuse(self, refused)
            except Exception:  # a fault of ours, after which the client would wait for ever
                self._tell(refused.status, refused, complete=False, upstream=upstream)
                self._client.break_off(looks_broken=True)
                raise
            self._tell(refused.status, refused, complete=True, upstream=upstream, sent=sent)
            self._client.exchange_over(self)

    def cancel(self) -> None:
        """The client is gone, or we go: so is every trace of the exchange upwards."""
        if self.phase is not Phase.OVER:
            relay, refused = self._relay, ENDED if self._engine.ended else None
            status = 0 if relay is None or relay.response is None else relay.response.status
            self._finish(status, refused, complete=False)

    def _finish(
        self,
        status: int,
        refused: Refused | None = None,
        *,
        complete: bool = True,
        upstream: UpstreamConnection | None = None,
    ) -> None:
        """Let go of what is left, and tell who listens; `upstream` gave the answer."""
        upstream = self._let_go() or upstream
        if self._tries is not None and refused is None and status:
            self._tries.succeed()
        self._tell(status, refused, complete=complete, upstream=upstream)

    def _let_go(self) -> UpstreamConnection | None:
        """The end of all that is under way; the connection to an upstream that was, and is not any more."""
        if self._parked is not None and self.phase is Phase.CONNECTING:
            self._parked.cancel()  # a question to the guard runs to its end: half-asked, it costs a connection
        self._go(Phase.OVER)
        self.deadline = inf
        if self.pump is not None:
            self.pump.close()
            self.pump = None
        if self._watched is not None:
            self._watched.drop()
        if self.to.terms.hold > self._engine.limits.buffer:
            self._client.hold(self._engine.limits.buffer)  # from here on as for anybody's answer
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.discard()
        return upstream

    def _tell(
        self,
        status: int,
        refused: Refused | None,
        *,
        complete: bool,
        upstream: UpstreamConnection | None = None,
        sent: int = 0,
    ) -> None:
        """Tell who listens; `sent` are the bytes of a refusal's body."""
        if self.turn is not None:
            self.turn.end()
        engine, ended = self._engine, monotonic()
        outcome, fault = status, ""
        if refused is not None:
            outcome, fault = status if complete else BROKEN, refused.why
        elif status >= 400 or not complete:
            outcome, fault = status if complete else GONE, str(status)
        engine.calls.count(self.to.route, self.head.method, outcome, ended - self._began)
        # A tunnel is not slow for being used.
        remember = engine.decisions.wants(fault, (self._answered_at if status == 101 else ended) - self._began)
        if remember or engine.listeners:
            place = "" if upstream is None else upstream.place
            finished = self._finished(status, refused, complete, place, ended, sent)
            engine.tell(finished, remember=remember)

    def _finished(
        self, status: int, refused: Refused | None, complete: bool, upstream: str, ended: float, sent: int
    ) -> Finished:
        began, sent_at, peer = self._began, self._sent_at, self._client.peer
        judged_at = self._judged_at or sent_at
        answered_at = self._answered_at or (ended if complete and refused is None else 0.0)
        return Finished(  # by place, since naming them takes as long as all else here
            self.request_id,
            self.call_head,
            peer,
            self._engine.dispatcher.client(self.head, peer) if peer.trusted else peer.address,
            self.to.route,
            self.allowed,
            upstream or ("" if refused is None else refused.upstream),
            status,
            refused,
            complete,
            self._body_size,
            sent if self._relay is None else self._relay.sent + sent,
            judged_at - began if judged_at else 0.0,
            sent_at - began if sent_at else 0.0,
            answered_at - began if answered_at else 0.0,
            ended - began,
            ended,
            self.trace,
            () if self._tries is None else tuple(self._tries.failures),
        )
