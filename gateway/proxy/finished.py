"""The one event in which each exchange ends: what access log, traces and a shadow configuration hear of it."""

from time import monotonic
from typing import Final, final

from mypy_extensions import mypyc_attr

from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.http1 import RequestHead
from gateway.proxy.dispatch import Peer
from gateway.proxy.traced import Trace
from gateway.routing import Route


@mypyc_attr(acyclic=True)
@final
class Finished:
    """An exchange that has ended, with its answer whole, cut, or refused by the gateway itself (`refused`).

    `client` is the address of who asked, by what trusted proxies say. `received` and `sent` are the bytes of the
    bodies, from the client and to it. Times are in seconds: until the guard had judged, until an upstream connection
    was there, until the answer's head had come, and in all; 0.0 for what was never reached. `ended` is when, by the
    monotonic clock. After a change of protocol (101) the exchange ends when its tunnel does, whose bytes and time
    count. `trace` is its place in one, if it has one; `failures` are what became of it at upstreams that were asked in
    vain.
    """

    __slots__ = (
        "allowed",
        "answered",
        "client",
        "complete",
        "connected",
        "ended",
        "failures",
        "head",
        "judged",
        "peer",
        "received",
        "refused",
        "request_id",
        "route",
        "seconds",
        "sent",
        "status",
        "trace",
        "upstream",
    )

    def __init__(
        self,
        request_id: bytes,
        head: RequestHead | None,
        peer: Peer,
        client: str,
        route: Route | None,
        allowed: Allowed | None,
        upstream: str,
        status: int,
        refused: Refused | None,
        complete: bool,
        received: int,
        sent: int,
        judged: float,
        connected: float,
        answered: float,
        seconds: float,
        ended: float,
        trace: Trace | None = None,
        failures: tuple[str, ...] = (),
    ) -> None:
        self.request_id: Final = request_id
        self.head: Final = head  # None where it never came, or could not be read
        self.peer: Final = peer
        self.client: Final = client
        self.route: Final = route
        self.allowed: Final = allowed
        self.upstream: Final = upstream
        self.status: Final = status
        self.refused: Final = refused
        self.complete: Final = complete
        self.received: Final = received
        self.sent: Final = sent
        self.judged: Final = judged
        self.connected: Final = connected
        self.answered: Final = answered
        self.seconds: Final = seconds
        self.ended: Final = ended
        self.trace: Final = trace
        self.failures: Final = failures

    @staticmethod
    def refused_at_once(
        refused: Refused,
        request_id: bytes,
        head: RequestHead | None,
        peer: Peer,
        client: str,
        route: Route | None,
        sent: int,
    ) -> "Finished":
        """The end of a request that was answered as soon as it was read."""
        return Finished(
            request_id=request_id,
            head=head,
            peer=peer,
            client=client,
            route=route,
            allowed=None,
            upstream="",
            status=refused.status,
            refused=refused,
            complete=True,
            received=0,
            sent=sent,
            judged=0.0,
            connected=0.0,
            answered=0.0,
            seconds=0.0,
            ended=monotonic(),
        )

    def without_head(self) -> "Finished":
        """The same, for what keeps it long: the head may be large, and holds secrets."""
        return Finished(
            self.request_id,
            None,
            self.peer,
            self.client,
            self.route,
            self.allowed,
            self.upstream,
            self.status,
            self.refused,
            self.complete,
            self.received,
            self.sent,
            self.judged,
            self.connected,
            self.answered,
            self.seconds,
            self.ended,
            self.trace,
            self.failures,
        )
