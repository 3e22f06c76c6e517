"""What all connections of one worker share: the rules, the parts they work with, and who hears of their endings."""

import itertools
import secrets
from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from math import inf
from typing import Final

from gateway.config import Config
from gateway.errors import Refused
from gateway.guard import Allowed, Guard
from gateway.http1 import RequestHead
from gateway.observe import get_logger
from gateway.proxy.asserting import Assertions
from gateway.proxy.calls import Calls
from gateway.proxy.decisions import Decisions
from gateway.proxy.dispatch import Destination, Dispatcher, Peer, Reading
from gateway.proxy.finished import Finished
from gateway.proxy.forwarding import arrival, forwarded_request_id, forwarded_scheme
from gateway.proxy.handover import Handover
from gateway.proxy.limits import Limits
from gateway.proxy.outgoing import Outbox
from gateway.proxy.pump import Pipes
from gateway.proxy.repeats import Repeats
from gateway.proxy.traced import Trace
from gateway.proxy.upstreams import Upstreams
from gateway.refusals import RefusalPage, Refusals
from gateway.routing import Route

_LAST_DIGITS: Final = tuple(b"%02x" % number for number in range(256))

BeginTrace = Callable[[RequestHead, Peer], Trace | None]

_log = get_logger("gateway.proxy")


class Engine:
    """One worker's shared parts. `clock` is the time of the last tick, for deadlines, which are looked at then."""

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        config: Config,
        guard: Guard,
        authorization_socket: str,
        refusal_page: RefusalPage,
        limits: Limits,
        out: frozenset[str] = frozenset(),
        assertions: Assertions | None = None,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        self.limits = limits
        self.dispatcher = Dispatcher(config, routes, authorization_socket)
        self.reading = Reading(self.dispatcher)
        self.reading = Repeats(self.dispatcher, limits.tick)  # in front of it, for requests that come again
        self.guard = guard
        self.refusal_page = refusal_page
        self.received = memoryview(bytearray(limits.buffer))  # where what comes in is put, on whichever connection
        self.outbox = Outbox()
        self.pipes = Pipes()
        self.upstreams = Upstreams(limits, self.dispatcher.terms_of, self.received, self.outbox, out)
        self.draining = False  # connections end with their answers
        self.successors: Handover | None = None  # or go to those, between two requests
        self.ended = False  # what is open still is broken off
        self.drain_began = inf
        self.drain_ends = inf
        self.now = get_running_loop().time
        self.clock = self.now()
        self.date = date()  # the Date field's value, made anew with each tick
        self.own_ids: Final = secrets.token_hex(8).encode()  # what each identifier of this worker's begins with
        self.new_request_id = _request_ids(self.own_ids).__next__
        self.refusals = Refusals(_log, self.now)
        self.calls = Calls()
        self.begin_trace = begin_trace  # where traces are wanted
        self.assertions = assertions  # where routes have `identity_jwt`
        self.decisions = Decisions()
        self.listeners: list[Callable[[Finished], None]] = []  # told of each exchange that has ended

    def listen(self, hear: Callable[[Finished], None]) -> None:
        """Tell `hear` of each exchange that ends from now on."""
        self.listeners = [*self.listeners, hear]

    def listen_no_more(self, hear: Callable[[Finished], None]) -> None:
        """Tell `hear` of none, if it was told."""
        self.listeners = [listener for listener in self.listeners if listener != hear]

    def tell(self, finished: Finished, *, remember: bool) -> None:
        """Tell of an exchange that has ended."""
        if remember:
            self.decisions.remember(finished)
        for listener in self.listeners:
            try:
                listener(finished)
            except Exception:  # noqa: BLE001  # a fault of who listens is none of the call's
                _log.exception("a call could not be told of", request_id=finished.request_id.decode())

    def right_ends_at(self, allowed: Allowed) -> float:
        """When the token's own end comes, by the loop's clock."""
        return inf if allowed.ends_at == inf else self.now() + self.guard.left(allowed)

    def streams_end(self, stays: float) -> float:
        """When a stream ends that may go on for so many seconds once another worker takes this one's place."""
        return min(self.drain_began + stays, self.drain_ends)

    def request_id(self, head: RequestHead, peer: Peer, to: Destination) -> bytes:
        """The identifier of a request: a new one, or what a trusted proxy gave it where the route takes that."""
        given = forwarded_request_id(head) if peer.trusted and to.terms.trust_request_id else None
        return self.new_request_id() if given is None else given

    def arrival(self, head: RequestHead, peer: Peer, to: Destination) -> bytes:
        """How a request reached us, in whole lines for the upstream."""
        came_by = self.dispatcher.came_by(head, peer)
        scheme = (forwarded_scheme(head) if peer.trusted else None) or self.dispatcher.scheme
        return arrival(came_by, scheme, to.authority, head.minor_version, to.route.strip_prefix)

    @property
    def can_assert(self) -> bool:
        """Whether upstreams can be told who calls by a JWT."""
        return self.assertions is not None and self.assertions.key is not None

    def assertion(self, allowed: Allowed, to: Destination) -> bytes:
        """The line by which an upstream is told so. Raises RuntimeError where that cannot be."""
        if self.assertions is None:
            raise RuntimeError("nobody has made ready what signs assertions")
        return self.assertions.line(allowed, to.route)

    def log_refusal(
        self,
        refused: Refused,
        peer: Peer,
        request_id: bytes,
        head: RequestHead | None,
        route: Route | None,
        allowed: Allowed | None = None,
    ) -> None:
        """One line for the operator, or one more in the count of a flood; `allowed` says whose call it was."""
        self.calls.count_refusal(refused, route)
        cause = refused.why
        if refused.location:  # a person on their way to sign in is no news
            return
        if not self.refusals.admits(refused.status, cause):
            return
        identity = refused.identity or (None if allowed is None else allowed.identity)
        fields: dict[str, str | None] = {
            "request_id": request_id.decode(),
            "error": refused.error,
            "cause": cause,
            "mend": refused.mend,
            "address": peer.address if head is None else self.dispatcher.client(head, peer),
            "client_id": None if identity is None else identity.client_id or None,
            "subject": None if identity is None else identity.subject,
            "upstream": refused.upstream,
            "route": None if route is None else route.name,
        }
        self.refusals.write("refused", refused.status, {**fields, **_described(head)})


def _described(head: RequestHead | None) -> dict[str, str]:
    """A request for the log; there is none where its head never came, or could not be read."""
    if head is None:
        return {}
    return {
        "method": head.method.decode("latin-1"),
        "host": head.host.decode("latin-1"),
        "path": head.target.partition(b"?")[0].decode("latin-1"),
    }


def date() -> bytes:
    """The value of Date, now (RFC 9110, section 5.6.7)."""
    return format_datetime(datetime.now(UTC), usegmt=True).encode()


def _request_ids(prefix: bytes) -> Iterator[bytes]:
    """Identifiers that no other request has, on this worker or, by the prefix, on any other: numbers in hexadecimal."""
    for number in itertools.count():
        front = b"%b%04x" % (prefix, number)
        for last in _LAST_DIGITS:
            yield front + last
