"""From a request's head to its destination: pure decisions, made once, on the one canonical target."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config import Config
from gateway.credentials import signatures
from gateway.guard import Call, Door, Guard, Principal, Refused
from gateway.http1 import Malformed, RequestHead, list_members, parse_host
from gateway.model import ISSUER_METADATA, RESOURCE_METADATA, format_scope
from gateway.proxy.answers import malformed, prefers_html, refusal
from gateway.routing import NoRoute, Origin, Route, RouteTable, Target, TargetError, canonical
from gateway.routing.fields import to_upstream
from gateway.routing.forwarded import hops, is_trusted, parse_address

METADATA = RESOURCE_METADATA.encode()  # RFC 9728: also asked for on a route's own host
_METADATA_OF_ISSUER = tuple(path.encode() for path in ISSUER_METADATA)
_FORM_LIMIT = 64 * 1024
_MOST_SEGMENTS = 100  # of a path of the authorization plane, whose router takes the square of their number in time
_AUTHORIZATION_TIMEOUT = 30.0
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
_FORM_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_HOPS = re.compile(rb"[0-9]{1,9}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")

EXPECT = b"Expect: 100-continue\r\n"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection; a trusted one may speak for those behind it."""

    address: str
    trusted: bool


@dataclass(slots=True, eq=False)
class Plan:
    """What follows from a head alone: its route, the question for the guard, and the head that is forwarded.

    `door` is the guard's for calls like this one. `head` is what the upstream receives, but for the request's
    identifier, the caller's identity, Authorization where it passes, and `last`, the fields that hold for the next
    hop only. `client` is the client's address; `request_id` a trusted proxy's, where the route takes it.
    """

    route: Route
    own: bool  # the authorization plane
    repeatable: bool  # sending it twice does no harm (RFC 9110, section 9.2.2); a body is not kept for that
    guarded: bool
    passes_authorization: bool
    signature_fields: bool  # Signature or Signature-Input is present
    method: str
    host: str  # what a MAC signature covers: ours to say, never the forwarding fields'
    head: bytes
    last: bytes
    client: str
    request_id: bytes | None
    prefers_page: bool  # than JSON, where it is refused
    door: Door | None = None


class Dispatcher:
    """Knows the routes and the public address; decides, and does no IO."""

    def __init__(self, config: Config, routes: Iterable[Route], authorization_socket: str) -> None:
        server = config.server
        self._public_host = server.host.encode()
        self._public_port = server.port
        self._scheme = b"https" if server.secure else b"http"
        self._public_authority = server.origin.partition("://")[2].encode()
        self._trusted = server.trusted_proxies
        prefix = server.oauth_prefix.encode()
        self._own = {
            path: _authorization_route(path, authorization_socket) for path in (prefix, METADATA, *_METADATA_OF_ISSUER)
        }
        self._table = RouteTable((*routes, *self._own.values()))

    def peer(self, address: str) -> Peer:
        """The peer at an address; one that is not an IP address (a unix socket's) is never trusted."""
        ip = parse_address(address.partition("%")[0])
        return Peer(address, False) if ip is None else Peer(str(ip), is_trusted(ip, self._trusted))

    def client(self, head: RequestHead, peer: Peer) -> str:
        """The address of the client that a request is of, whichever trusted proxies brought it."""
        return self._came_by(head, peer)[0]

    def _came_by(self, head: RequestHead, peer: Peer) -> tuple[str, ...]:
        """The addresses that a request came by: the client's first, the peer's last."""
        if not peer.trusted:
            return (peer.address,)
        return (*hops(head.values(b"x-forwarded-for"), self._trusted), peer.address)

    def plan(self, head: RequestHead, peer: Peer, guard: Guard) -> Plan | Refused:
        """The plan for a request, or why there is none; the head remembers it for the next time."""
        plan = head.plan = self._plan(head, peer)
        if isinstance(plan, Plan) and plan.guarded:
            plan.door = guard.door(self.call(head, plan))
        return plan

    def _plan(self, head: RequestHead, peer: Peer) -> Plan | Refused:
        try:
            forwards = _max_forwards(head)
            target = canonical(head.target)
            if target.authority is not None and target.authority.lower() != head.host.lower():
                return refusal(400, "The request target and the Host field name different hosts.")
            authority = head.host or self._public_authority
            host, _ = parse_host(authority)
            route = self._table.match(host, head.method, target.path)
        except TargetError as fault:
            return refusal(400, str(fault))
        except Malformed as fault:
            return malformed(fault)
        if isinstance(route, NoRoute):
            if route.allow:
                return refusal(405, "This path does not support that method.")
            return refusal(404, "Nothing is served at this path.")
        if forwards == 0:
            return refusal(501, "The request may not be forwarded further, and the gateway has no answer of its own.")
        own = self._own.get(route.path) is route
        if own and host != self._public_host and route.path != METADATA:
            public = self._public_authority.decode()
            mend = f"have the client call {public}; a proxy in front of the gateway must pass Host on unchanged"
            return refusal(421, f"Sign-in and tokens are served at {public} only.", mend=mend)
        # The authorization plane's own parser would refuse these too, in an answer that is none of ours.
        if own and head.method not in _FORM_METHODS:
            return refusal(501, "The gateway does not know this method.")
        if own and target.path.count(b"/") > _MOST_SEGMENTS:
            return refusal(404, "Nothing is served at this path.")
        if own and not head.target.isascii():
            return refusal(400, "Percent-encode any characters of the request target that are not ASCII.")
        came_by = self._came_by(head, peer)
        forwarding = self._forwarding_fields(head, peer, route, authority, came_by)
        return Plan(
            route,
            own,
            head.length == 0 and head.method in _IDEMPOTENT,
            bool(route.schemes),
            (own or route.forward_authorization) and b"authorization" not in head.connection,
            any(name in signatures.FIELDS for name, _, _ in head.fields),
            head.method.decode(),
            (route.host or self._public_host).decode(),
            self._forwarded_head(head, route, own, target, authority, forwarding),
            b"\r\n".join([*_connection_fields(head), b"", b""]),
            came_by[0],
            _request_id(head) if peer.trusted and route.trust_request_id else None,
            prefers_html(head),
        )

    def allowed_methods(self, head: RequestHead) -> tuple[bytes, ...]:
        """The Allow field of a 405 (RFC 9110, section 15.5.6)."""
        host, _ = parse_host(head.host or self._public_authority)
        found = self._table.match(host, head.method, canonical(head.target).path)
        return (b"Allow: " + b", ".join(found.allow),) if isinstance(found, NoRoute) else ()

    def call(self, head: RequestHead, plan: Plan) -> Call:
        """What the guard judges."""
        return Call(
            route=plan.route,
            method=plan.method,
            target=head.target,
            host=plan.host,
            port=self._public_port,
            authorization=head.authorization,
            signature_fields=plan.signature_fields,
            fields=head.fields,
            has_body=head.length != 0,
        )

    def _forwarded_head(
        self, head: RequestHead, route: Route, own: bool, target: Target, authority: bytes, forwarding: list[bytes]
    ) -> bytes:
        """The head that the upstream receives, framing and hygiene included."""
        fields = to_upstream(head.fields, head.connection, own=own)
        if "signature" in route.schemes and not route.forward_authorization:  # they are the credential, token and all
            fields = [(name, value) for name, value in fields if name.lower() not in signatures.FIELDS]
        if (forwards := _max_forwards(head)) is not None:
            fields = [(name, value) for name, value in fields if name.lower() != b"max-forwards"]
            fields.append((b"Max-Forwards", b"%d" % (forwards - 1)))
        forwarded = route.forwarded(target.path) + target.query
        lines = [b"%b %b HTTP/1.1" % (head.method, forwarded), b"Host: " + (route.upstream_host or authority)]
        lines += [name + b": " + value for name, value in fields]
        lines += forwarding
        if head.length is None:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.length or any(name == b"content-length" for name, _, _ in head.fields):
            lines.append(b"Content-Length: %d" % head.length)
        if head.expects_continue and head.length is not None:
            return b"\r\n".join(lines) + b"\r\n" + EXPECT
        return b"\r\n".join(lines) + b"\r\n"

    def _forwarding_fields(
        self, head: RequestHead, peer: Peer, route: Route, authority: bytes, came_by: tuple[str, ...]
    ) -> list[bytes]:
        """How the request reached us. Only the scheme is a trusted proxy's to say: host and port are those of Host,
        since a proxy that does not set X-Forwarded-Host passes on what the client wrote there.

        Via is as RFC 9110, section 7.6.3 demands.
        """
        scheme = (_told_scheme(head) if peer.trusted else None) or self._scheme
        port = parse_host(authority)[1] or (443 if scheme == b"https" else 80)
        lines = [
            b"X-Forwarded-For: " + ", ".join(came_by).encode(),
            b"X-Forwarded-Proto: " + scheme,
            b"X-Forwarded-Host: " + authority,
            b"X-Forwarded-Port: %d" % port,
            b"Via: 1.%d gateway" % head.minor_version,
        ]
        if route.strip_prefix:
            lines.append(b"X-Forwarded-Prefix: " + route.strip_prefix)
        return lines


def _authorization_route(path: bytes, socket: str) -> Route:
    """The authorization plane as an upstream of ours."""
    return Route(
        name="authorization",
        path=path,
        host=None,
        methods=frozenset(),
        upstreams=(Origin("localhost", 80, path=socket),),
        upstream_host=None,
        strip_prefix=b"",
        schemes=(),
        scopes={},
        timeout=_AUTHORIZATION_TIMEOUT,
        max_body=_FORM_LIMIT,
        forward_authorization=True,
        resource="",
        exact=path in _METADATA_OF_ISSUER,
    )


def _request_id(head: RequestHead) -> bytes | None:
    """The identifier that the request came with, if it is a plain one."""
    given = list(head.values(b"x-request-id"))
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else None


def identity_fields(principal: Principal) -> bytes:
    """Who asks, in whole lines, made once for each principal; nothing on a public route."""
    if principal.rendered is None:
        principal.rendered = _identity_fields(principal)
    return principal.rendered


def _identity_fields(principal: Principal) -> bytes:
    identity = principal.identity
    if identity is None:
        return b""
    fields = [
        (b"X-Auth-Subject", identity.subject),
        (b"X-Auth-Client-Id", identity.client_id),
        (b"X-Auth-Scope", format_scope(principal.scopes)),
        (b"X-Auth-Token-Type", principal.token_type),
        (b"X-Forwarded-User", identity.username),
        (b"X-Forwarded-Email", identity.email),
    ]
    return b"".join(
        name + b": " + _CONTROLS.sub(b"", value.encode()) + b"\r\n" for name, value in fields if value is not None
    )


def _connection_fields(head: RequestHead) -> list[bytes]:
    """What holds for the next hop only: trailers are taken, and an upgrade is passed on (RFC 9110, section 7.8)."""
    codings = {member.partition(b";")[0].rstrip() for value in head.values(b"te") for member in list_members(value)}
    options = [b"TE"] if b"trailers" in codings else []  # RFC 9110, section 10.1.4
    lines = [b"TE: trailers"] if options else []
    if head.upgrade is not None:
        lines.append(b"Upgrade: " + next(head.values(b"upgrade")))
        return [*lines, b"Connection: " + b", ".join([*options, b"Upgrade"])]
    return [*lines, *([b"Connection: TE"] if options else [])]


def _max_forwards(head: RequestHead) -> int | None:
    """How many hops a TRACE or OPTIONS may still take, if it says so (RFC 9110, section 7.6.2). Raises Malformed."""
    if head.method.upper() not in (b"TRACE", b"OPTIONS"):
        return None
    values = list(head.values(b"max-forwards"))
    if not values:
        return None
    if len(values) > 1 or _HOPS.fullmatch(values[0]) is None:
        raise Malformed(400, "Max-Forwards is malformed.")
    return int(values[0])


def _told_scheme(head: RequestHead) -> bytes | None:
    """The scheme that X-Forwarded-Proto names, if it was sent once and with a known one."""
    values = [value.lower() for value in head.values(b"x-forwarded-proto")]
    return values[0] if values in ([b"http"], [b"https"]) else None
