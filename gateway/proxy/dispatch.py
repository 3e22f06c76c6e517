"""From a request's head to its destination: pure decisions, made once, on the one canonical target."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.config import Config
from gateway.guard import Allowed, Call, Refused
from gateway.http1 import Malformed, RequestHead, parse_host
from gateway.model import OWN_COOKIES
from gateway.proxy.answers import malformed, refusal
from gateway.routing import NoRoute, Origin, Route, RouteTable, TargetError, canonical
from gateway.routing.fields import to_upstream

METADATA = b"/.well-known/oauth-protected-resource"  # RFC 9728: also asked for on a route's own host
_METADATA_OF_ISSUER = (
    b"/.well-known/oauth-authorization-server",
    b"/.well-known/openid-configuration",
    b"/.well-known/jwks.json",
)
_FORM_LIMIT = 64 * 1024
_AUTHORIZATION_TIMEOUT = 30.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")

OWN_COOKIE_NAMES = frozenset(name.encode() for name in OWN_COOKIES)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection; a trusted one may speak for those behind it."""

    address: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes: its route, the canonical target in both forms, and the host it named."""

    route: Route
    own: bool  # the authorization plane
    target: bytes  # what is forwarded
    host: bytes  # lower case, without a port
    authority: bytes  # the Host field as it came


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
        return Peer(address, bool(self._trusted) and self._is_trusted(address))

    def _is_trusted(self, address: str) -> bool:
        try:
            ip = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(ip.version == network.version and ip in network for network in self._trusted)

    def destination(self, head: RequestHead) -> Destination | Refused:
        """The owner of a request, or why it has none."""
        try:
            target = canonical(head.target)
            if target.authority is not None and target.authority.lower() != head.host.lower():
                return refusal(400, "The request target names another host than the Host field.")
            authority = head.host or self._public_authority
            host, _ = parse_host(authority)
            route = self._table.match(host, head.method, target.path)
        except TargetError as fault:
            return refusal(400, str(fault))
        except Malformed as fault:
            return malformed(fault)
        if isinstance(route, NoRoute):
            if route.allow:
                return refusal(405, "This path does not take that method.")
            return refusal(404, "Nothing is served at this path.")
        own = self._own.get(route.path) is route
        if own and host != self._public_host and route.path != METADATA:
            return refusal(421, f"Sign-in and tokens are served at {self._public_authority.decode()} only.")
        return Destination(route, own, route.forwarded(target.path) + target.query, host, authority)

    def allowed_methods(self, head: RequestHead, destination: Refused) -> list[tuple[bytes, bytes]]:
        """The Allow field of a 405 (RFC 9110, section 15.5.6)."""
        if destination.status != 405 or head.method == b"CONNECT":
            return []
        host, _ = parse_host(head.host or self._public_authority)
        found = self._table.match(host, head.method, canonical(head.target).path)
        return [(b"Allow", b", ".join(found.allow))] if isinstance(found, NoRoute) else []

    def call(self, head: RequestHead, destination: Destination) -> Call:
        """What the guard judges. Host and port are ours to say, never the forwarding fields' (MAC.md)."""
        route = destination.route
        host = destination.host if route.hosts else self._public_host
        names = [name for name, _, _ in head.fields]
        return Call(
            route=route,
            method=head.method.decode(),
            target=head.target,
            host=host.decode(),
            port=self._public_port,
            authorization=tuple(head.values(b"authorization")),
            signature_fields=b"signature" in names or b"signature-input" in names,
        )

    def request_id(self, head: RequestHead, peer: Peer, fresh: str) -> str:
        """The request's identifier: a trusted proxy's, if it sent a plain one, else the fresh one."""
        if peer.trusted:
            given = list(head.values(b"x-request-id"))
            if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
                return given[0].decode()
        return fresh

    def forwarded_head(
        self,
        head: RequestHead,
        destination: Destination,
        allowed: Allowed | None,
        peer: Peer,
        request_id: str,
        *,
        forward_expect: bool,
    ) -> bytes:
        """The head that the upstream receives, framing and hygiene included."""
        route, own = destination.route, destination.own
        fields = to_upstream(
            head.fields,
            head.connection,
            keep_authorization=own or route.forward_authorization,
            own_cookies=() if own else OWN_COOKIE_NAMES,
        )
        lines = [
            b"%b %b HTTP/1.1" % (head.method, destination.target),
            b"Host: " + (route.upstream_host or destination.authority),
        ]
        lines += [name + b": " + value for name, value in fields]
        lines += self._forwarding_fields(head, destination, peer)
        lines.append(b"X-Request-Id: " + request_id.encode())
        if allowed is not None:
            lines += _identity_fields(allowed)
        if head.length is None:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.length or any(name == b"content-length" for name, _, _ in head.fields):
            lines.append(b"Content-Length: %d" % head.length)
        if forward_expect:
            lines.append(b"Expect: 100-continue")
        lines += _connection_fields(head)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _forwarding_fields(self, head: RequestHead, destination: Destination, peer: Peer) -> list[bytes]:
        """X-Forwarded-*: what a trusted proxy told, else what we saw. Via, as RFC 9110, section 7.6.3 demands."""
        client, scheme, authority = peer.address.encode(), self._scheme, destination.authority
        port = None
        if peer.trusted:
            chain = b", ".join(head.values(b"x-forwarded-for"))
            client = chain + b", " + client if chain else client
            scheme = _single(head, b"x-forwarded-proto", (b"http", b"https")) or scheme
            authority = _single(head, b"x-forwarded-host") or authority
            port = _single(head, b"x-forwarded-port")
        if port is None:
            try:
                stated = parse_host(authority)[1]
            except Malformed:
                stated = None
            port = b"%d" % (stated or (443 if scheme == b"https" else 80))
        return [
            b"X-Forwarded-For: " + client,
            b"X-Forwarded-Proto: " + scheme,
            b"X-Forwarded-Host: " + authority,
            b"X-Forwarded-Port: " + port,
            b"Via: 1.%d gateway" % head.minor_version,
        ]


def _authorization_route(path: bytes, socket: str) -> Route:
    """The authorization plane as an upstream of ours."""
    return Route(
        name="authorization",
        path=path,
        hosts=frozenset(),
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


def _identity_fields(allowed: Allowed) -> list[bytes]:
    """Who asks, as INTERFACES.md names it; nothing on a public route."""
    identity = allowed.identity
    if identity is None:
        return []
    fields = [
        (b"X-Auth-Subject", identity.subject),
        (b"X-Auth-Client-Id", identity.client_id),
        (b"X-Auth-Scope", " ".join(sorted(allowed.scopes))),
        (b"X-Auth-Token-Type", allowed.token_type),
        (b"X-Forwarded-User", identity.username),
        (b"X-Forwarded-Email", identity.email),
    ]
    return [name + b": " + _CONTROLS.sub(b"", value.encode()) for name, value in fields if value is not None]


def _connection_fields(head: RequestHead) -> list[bytes]:
    """What holds for the next hop only: trailers are taken, and an upgrade is passed on (RFC 9110, section 7.8)."""
    options = [b"TE"] if any(b"trailers" in value.lower() for value in head.values(b"te")) else []
    lines = [b"TE: trailers"] if options else []
    if head.upgrade is not None:
        lines.append(b"Upgrade: " + next(head.values(b"upgrade")))
        return [*lines, b"Connection: " + b", ".join([*options, b"Upgrade"])]
    return [*lines, *([b"Connection: TE"] if options else [])]


def _single(head: RequestHead, name: bytes, known: tuple[bytes, ...] = ()) -> bytes | None:
    """A trusted proxy's field, if it was sent once and, where the values are known, with one of them."""
    values = list(head.values(name))
    if len(values) != 1 or not values[0] or (known and values[0].lower() not in known):
        return None
    return values[0].lower() if known else values[0]


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that came through an IPv6 socket, as itself."""
    return getattr(ip, "ipv4_mapped", None) or ip
