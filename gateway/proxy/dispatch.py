"""From a request's head to its destination: pure decisions, made once, on the one canonical target."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from gateway.config import Config
from gateway.config import Route as ConfiguredRoute
from gateway.errors import Refused
from gateway.guard import Call, Turn
from gateway.http1 import Malformed, RequestHead, RequestReader, parse_host
from gateway.model import CHANGE_PASSWORD, ISSUER_METADATA, RESOURCE_METADATA
from gateway.proxy.answers import malformed
from gateway.proxy.edge import VERIFYING, Edge, edge_of
from gateway.routing import HealthCheck, Look, NoRoute, Origin, Route, RouteTable, Target, TargetError, canonical
from gateway.routing.cors import preflight_for
from gateway.routing.forwarded import hops, is_trusted, parse_address
from gateway.routing.retrying import IDEMPOTENT

SOCKET: Final = "unix"  # in an address's place, where a connection came by a unix socket
METADATA: Final = RESOURCE_METADATA.encode()  # RFC 9728: also asked for on a route's own host
_METADATA_OF_ISSUER: Final = tuple(path.encode() for path in ISSUER_METADATA)
# At the pages' own host alone: a site behind another one may have passwords of its own.
_CHANGE_PASSWORD: Final = CHANGE_PASSWORD.encode()
# Of a path of the authorization plane, whose router takes the square of their number in time.
_MOST_SEGMENTS: Final = 100
_FORM_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_COUNTED: Final = frozenset((b"TRACE", b"OPTIONS"))
_HOPS: Final = re.compile(rb"[0-9]{1,9}")


class Terms(NamedTuple):
    """On what terms calls on a route are passed on: keys of the configuration, by their names there; and what the route
    does besides, if it does anything."""

    timeout: float
    connect_timeout: float | None  # these three are the limits' own where none is said
    idle_timeout: float | None
    connections: int | None  # to each upstream, by each worker
    total_timeout: float  # 0.0 for none
    max_body: int
    hold: int  # bytes of a body that are taken in before somebody who is slow holds up somebody else
    forward_authorization: bool
    trust_request_id: bool
    retries: int
    drain: float
    max_message: int  # of a WebSocket
    health: HealthCheck | None  # what the upstreams are asked time and again
    weights: tuple[int, ...]  # of the upstreams, one for each
    chooses: bool  # among several of them
    repeatable: frozenset[bytes]  # the methods of calls that may be sent once more
    edge: Edge | None

    @classmethod
    def of(cls, route: ConfiguredRoute) -> "Terms":
        """Those of a configured route."""
        own = {name: getattr(route, name) for name in cls._fields if hasattr(route, name)}
        own["health"] = None if route.health is None else route.health.terms
        return cls(
            **own,
            weights=tuple(upstream.weight for upstream in route.targets),
            chooses=len(route.upstreams) > 1,
            repeatable=IDEMPOTENT if route.retries else frozenset(),
            edge=edge_of(route),
        )


_OF_THE_PAGES: Final = Terms(
    timeout=30.0,
    connect_timeout=None,
    idle_timeout=None,
    connections=None,
    total_timeout=0.0,
    max_body=64 * 1024,
    hold=0,
    forward_authorization=True,
    trust_request_id=False,
    retries=0,
    drain=30.0,
    max_message=0,  # they have no WebSockets
    health=None,
    weights=(1,),
    chooses=False,
    repeatable=IDEMPOTENT,
    edge=None,
)
_OF_VERIFY: Final = _OF_THE_PAGES._replace(edge=VERIFYING)


class Peer(NamedTuple):
    """Who is at the other end of a connection; a trusted one may speak for those behind it."""

    address: str
    trusted: bool


@mypyc_attr(acyclic=True)
@final
class Destination:
    """Where a request goes.

    `terms` say how it is passed on; `own` is the authorization plane; `target` is what the upstream receives,
    `authority` what the client named; `hops_left` is what Max-Forwards allows from here on, if it was sent.
    """

    __slots__ = ("authority", "hops_left", "own", "route", "target", "terms")

    def __init__(
        self, route: Route, terms: Terms, own: bool, target: bytes, authority: bytes, hops_left: int | None
    ) -> None:
        self.route: Final = route
        self.terms: Final = terms
        self.own: Final = own
        self.target: Final = target
        self.authority: Final = authority
        self.hops_left: Final = hops_left


class Dispatcher:
    """Knows the routes and the public address; decides, and does no IO."""

    def __init__(self, config: Config, routes: Iterable[Route], authorization_socket: str) -> None:
        server = config.server
        self._public_host = server.host.encode()
        self._public_port = server.port
        self._signed_host = server.host
        self.scheme: Final = b"https" if server.secure else b"http"
        self._public_authority = server.origin.partition("://")[2].encode()
        self._trusted = server.trusted_networks
        self._trusts_socket = server.trusts_socket
        prefix = server.oauth_prefix.encode()
        self._own = {
            path: _authorization_route(path, authorization_socket, host)
            for path, host in (
                (prefix, None),
                (METADATA, None),
                *((path, None) for path in _METADATA_OF_ISSUER),
                (_CHANGE_PASSWORD, self._public_host),
            )
        }
        self._verify: Final = prefix + b"/verify"
        self._own[self._verify] = _authorization_route(self._verify, authorization_socket, None)
        self._terms = {route.name: Terms.of(route) for route in config.routes}
        self._crossed = any(terms.edge is not None and terms.edge.crosses_origins for terms in self._terms.values())
        self._table = RouteTable((*routes, *self._own.values()))

    def peer(self, address: str) -> Peer:
        """The peer at an address; one that is not an IP address is a unix socket's."""
        ip = parse_address(address.partition("%")[0])
        return Peer(address, self._trusts_socket) if ip is None else Peer(str(ip), is_trusted(ip, self._trusted))

    def client(self, head: RequestHead, peer: Peer) -> str:
        """The address of the client that a request is of, whichever trusted proxies brought it."""
        return self.came_by(head, peer)[0]

    def came_by(self, head: RequestHead, peer: Peer) -> tuple[str, ...]:
        """The addresses that a request came by: the client's first, the peer's last."""
        if not peer.trusted:
            return (peer.address,)
        forwarded = hops(head.fields.values(b"x-forwarded-for"), self._trusted)
        return forwarded if forwarded and peer.address == SOCKET else (*forwarded, peer.address)

    def destination(self, head: RequestHead) -> Destination | Refused:
        """Where a request goes, or why nowhere."""
        try:
            counted = head.method.upper() in _COUNTED
            hops_left = _hops_left(head) if counted else None
            target = canonical(head.target)
            if target.authority is not None and target.authority.lower() != head.host.lower():
                return Refused("invalid_request", "The request target and the Host field name different hosts.")
            authority = head.host or self._public_authority
            host, _ = parse_host(authority)
            route = self._table.match(host, head.method, target.path, plain=target.plain)
            if counted and self._crossed:
                route = self._asked_before(head, host, target) or route
        except TargetError as exc:
            if head.target.startswith(self._verify + b"/"):  # it is another's to judge what stands behind
                return self._verification(head)
            return Refused("invalid_request", str(exc))
        except Malformed as fault:
            return malformed(fault)
        if isinstance(route, NoRoute):
            if route.allow:
                allow = (("Allow", b", ".join(route.allow).decode("ascii")),)  # RFC 9110, section 15.5.6
                return Refused("method_not_allowed", "This path does not support that method.", fields=allow)
            return Refused("not_found", "Nothing is served at this path.")
        if hops_left is not None and hops_left < 0:
            text = "The request may not be forwarded further, and the gateway has no answer of its own."
            return Refused("not_implemented", text)
        own = self.is_own(route)
        if own and route.path == self._verify:
            return self._verification(head)
        if own and (refused := self._refused_pages(head, host, target.path, route)) is not None:
            return refused
        terms = _OF_THE_PAGES if own else self._terms[route.name]
        return Destination(route, terms, own, route.forwarded(target.path) + target.query, authority, hops_left)

    def _verification(self, head: RequestHead) -> Destination:
        """Where a question of forward auth goes, with what stands behind `verify` as it came."""
        _, _, behind = head.target.partition(self._verify)
        return Destination(self._own[self._verify], _OF_VERIFY, True, behind, head.host, None)

    def _asked_before(self, head: RequestHead, host: bytes, target: Target) -> Route | None:
        """The route of the call that a preflight is for, if that may be made across origins."""
        asked = preflight_for(head.method, head.fields)
        route = self._table.match(host, asked, target.path, plain=target.plain) if asked else None
        if not isinstance(route, Route):
            return None
        terms = self._terms.get(route.name)
        return route if terms is not None and terms.edge is not None and terms.edge.crosses_origins else None

    def lines_of_refusal(self, head: RequestHead, refused: Refused) -> bytes:
        """What the head of a refusal says besides where the path has routes for the methods that it allows, and none
        for this one: a page that may call one of those may read it."""
        allowed = refused.values("Allow") if self._crossed else ()
        if not allowed:
            return b""
        host, path = parse_host(head.host or self._public_authority)[0], canonical(head.target).path
        for method in allowed[0].encode("ascii").split(b", "):
            with suppress(TargetError):  # for a host that reads as another's with this method
                route = self._table.match(host, method, path, plain=True)  # nothing goes there
                edge = self._terms[route.name].edge if isinstance(route, Route) and route.name in self._terms else None
                if edge is not None and edge.crosses_origins:
                    return edge.lines_of_refusal(head)
        return b""

    def looked_at(self, method: bytes, host: bytes, target: bytes) -> list[Look]:
        """The routes that a request was held against; none where it did not come to that."""
        try:
            return self._table.looked_at(parse_host(host or self._public_authority)[0], method, canonical(target).path)
        except (TargetError, Malformed):
            return []

    def is_own(self, route: Route) -> bool:
        """Whether a route leads to the authorization plane."""
        return self._own.get(route.path) is route

    def terms_of(self, route: Route) -> Terms:
        """On what terms calls on a route are passed on."""
        return _OF_THE_PAGES if self.is_own(route) else self._terms[route.name]

    def _refused_pages(self, head: RequestHead, host: bytes, path: bytes, route: Route) -> Refused | None:
        """Why a request may not reach the authorization plane."""
        if host != self._public_host and route.path != METADATA:
            public = self._public_authority.decode()
            mend = f"have the client call {public}; a proxy in front of the gateway must pass Host on unchanged"
            return Refused("misdirected_request", f"Sign-in and tokens are served at {public} only.", mend=mend)
        # The authorization plane's own parser would refuse these too, in an answer that is none of ours.
        if head.method not in _FORM_METHODS:
            return Refused("not_implemented", "The gateway does not know this method.")
        if path.count(b"/") > _MOST_SEGMENTS:
            return Refused("not_found", "Nothing is served at this path.")
        if not head.target.isascii():
            return Refused("invalid_request", "Percent-encode any characters of the request target that are not ASCII.")
        return None

    def call(self, head: RequestHead, destination: Destination, peer: Peer | None = None) -> Call:
        """What the guard judges; what comes from nobody takes nothing of a limit."""
        fields, route = head.fields, destination.route
        limits = route.limits
        return Call(
            route,
            head.method.decode(),
            head.target,
            self._signed_host if route.host is None else route.host.decode(),
            self._public_port,
            fields.values(b"authorization"),
            fields,
            head.length != 0,
            None if limits is None or peer is None else Turn(limits, self.client(head, peer)),
        )


Read = tuple[RequestHead, bytes, Destination | Refused]
"""A request with its whole body, and where it goes, or why nowhere."""


class Reading:
    """The way of what comes in while nothing else waits on its connection: a request and its destination, at once."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher: Final = dispatcher

    def read(self, reader: RequestReader, data: bytes) -> Read | None:
        """The request that `data` is with its whole body; None where it is none, or the connection's `reader` has more
        to read: then it is to receive the data."""
        whole = reader.whole(data)
        if whole is None:
            return None
        head, body = whole
        return head, body, self._dispatcher.destination(head)


def _authorization_route(path: bytes, socket: str, host: bytes | None) -> Route:
    """The authorization plane as an upstream of ours, at one host or all of them."""
    return Route(
        name="authorization",
        path=path,
        host=host,
        methods=frozenset(),
        upstreams=(Origin("localhost", 80, path=socket),),
        upstream_host=None,
        strip_prefix=b"",
        schemes=(),
        scopes={},
        resource="",
        exact=path in _METADATA_OF_ISSUER or path == _CHANGE_PASSWORD,
    )


def _hops_left(head: RequestHead) -> int | None:
    """What Max-Forwards leaves to the next one, -1 where it is not to be asked (RFC 9110, section 7.6.2)."""
    values = head.fields.values(b"max-forwards")
    if not values:
        return None
    if len(values) > 1 or _HOPS.fullmatch(values[0]) is None:
        raise Malformed(400, "Max-Forwards is malformed.")
    return int(values[0]) - 1
