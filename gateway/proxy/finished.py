"""The one event in which each exchange ends: what access log, traces and a shadow configuration hear of it."""

from typing import NamedTuple

from gateway.guard import Allowed, Refused
from gateway.http1 import RequestHead
from gateway.proxy.dispatch import Peer
from gateway.proxy.traced import Trace
from gateway.routing import Route


class Finished(NamedTuple):
    """An exchange that has ended, with its answer whole, cut, or refused by the gateway itself (`refused`).

    `client` is the address of who asked, by what trusted proxies say. `received` and `sent` are the bytes of the
    bodies, from the client and to it. Times are in seconds: until the guard had judged, until an upstream connection
    was there, until the answer's head had come, and in all; 0.0 for what was never reached. After a change of protocol
    (101) the exchange ends when its tunnel does, whose bytes and time count. `trace` is its place in one, if it has
    one; `failures` are what became of it at upstreams that were asked in vain.
    """

    request_id: bytes
    head: RequestHead | None  # None where it never came, or could not be read
    peer: Peer
    client: str
    route: Route | None
    allowed: Allowed | None
    upstream: str
    status: int
    refused: Refused | None
    complete: bool
    received: int
    sent: int
    judged: float
    connected: float
    answered: float
    seconds: float
    trace: Trace | None = None
    failures: tuple[str, ...] = ()

    @classmethod
    def refused_at_once(
        cls,
        refused: Refused,
        request_id: bytes,
        head: RequestHead | None,
        peer: Peer,
        client: str,
        route: Route | None,
    ) -> "Finished":
        """The end of a request that was answered as soon as it was read."""
        return cls(
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
            sent=0,
            judged=0.0,
            connected=0.0,
            answered=0.0,
            seconds=0.0,
        )
