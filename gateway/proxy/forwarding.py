"""The heads that go on, in both directions: cut out of the bytes that came, with what is ours to say behind them."""

import re
from functools import lru_cache
from typing import Final

from gateway.guard import Allowed
from gateway.http1 import RequestHead, ResponseHead, list_members, parse_host, websocket
from gateway.model import format_scope
from gateway.proxy.answers import reason_of
from gateway.proxy.dispatch import Destination
from gateway.proxy.traced import Trace
from gateway.routing.fields import Shape, to_client, to_upstream
from gateway.schemes import SCHEMES

ANSWER_BEGINS: Final = b"HTTP/1.1 "  # whatever the answer, and whoever gives it
_NOTHING: Final = frozenset[bytes]()
_AUTHORIZATION: Final = frozenset((b"authorization",))  # which never passes by itself, whatever the schemes
_TRACEPARENT: Final = frozenset((b"traceparent",))
_TRACE: Final = _TRACEPARENT | {b"tracestate"}  # of another trace than the one that begins
_COUNTED: Final = frozenset((b"max-forwards",))
_FOR_NEXT_HOP: Final = frozenset((b"te", b"upgrade"))
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}")


def upstream_head(
    head: RequestHead,
    to: Destination,
    arrival: bytes,
    request_id: bytes,
    allowed: Allowed,
    trace: Trace | None = None,
    *,
    expects: bool,
    shape: Shape | None = None,
    assertion: bytes = b"",
) -> bytes:
    """The head that the upstream receives.

    `arrival` are the lines that say how the request reached us, and `allowed` says on whose behalf it is made; `trace`
    is the call's place in one, where traceparent does not pass as it came. With `expects` the upstream is asked whether
    it wants the body, where the client asks that. `shape` is what the route makes of the fields,
    `assertion` the line that proves who calls, where the route has one.
    """
    route, fields, length = to.route, head.fields, head.length
    but = _NOTHING if to.terms.forward_authorization else _credentials(route.schemes)
    if to.hops_left is not None:
        but |= _COUNTED
    if trace is not None:
        but |= _TRACEPARENT if trace.parent_id else _TRACE
    parts = [
        b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, to.target, route.upstream_host or to.authority),
        to_upstream(fields, head.connection, own=to.own, but=but, shape=shape),
        arrival,
        b"X-Request-Id: %b\r\n" % request_id,
    ]
    if trace is not None:
        parts.append(trace.line)
    if to.hops_left is not None:
        parts.append(b"Max-Forwards: %d\r\n" % to.hops_left)
    if length is None:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length or b"content-length" in fields:
        parts.append(b"Content-Length: %d\r\n" % length)
    if expects and head.expects_continue and length is not None:
        parts.append(b"Expect: 100-continue\r\n")
    if shape is not None:
        parts.append(shape.lines)
    if allowed.subject is not None:
        parts.append(_identity(allowed))
        if assertion:
            parts.append(assertion)
    if not _FOR_NEXT_HOP.isdisjoint(fields.names.known):
        parts.append(_next_hop(head))
    parts.append(b"\r\n")
    return b"".join(parts)


_of_schemes: Final[dict[tuple[str, ...], frozenset[bytes]]] = {}  # there are as few as the schemes allow


def _credentials(schemes: tuple[str, ...]) -> frozenset[bytes]:
    """The fields that are the credential at a route with these schemes."""
    found = _of_schemes.get(schemes)
    if found is None:
        named = [name.lower().encode() for scheme in schemes for name in SCHEMES[scheme].fields]
        found = _of_schemes[schemes] = _AUTHORIZATION.union(named)
    return found


@lru_cache(maxsize=1024)  # clients send many requests in the same way
def arrival(came_by: tuple[str, ...], scheme: bytes, authority: bytes, minor_version: int, prefix: bytes) -> bytes:
    """How a request reached us, in whole lines; Via is as RFC 9110, section 7.6.3 demands.

    Only the scheme is a trusted proxy's to say: host and port are those of Host, since a proxy that does not set
    X-Forwarded-Host passes on what the client wrote there.
    """
    port = parse_host(authority)[1] or (443 if scheme == b"https" else 80)
    lines = [
        b"X-Forwarded-For: " + ", ".join(came_by).encode(),
        b"X-Forwarded-Proto: " + scheme,
        b"X-Forwarded-Host: " + authority,
        b"X-Forwarded-Port: %d" % port,
        b"Via: 1.%d gateway" % minor_version,
    ]
    if prefix:
        lines.append(b"X-Forwarded-Prefix: " + prefix)
    return b"\r\n".join([*lines, b""])


def forwarded_scheme(head: RequestHead) -> bytes | None:
    """The scheme that X-Forwarded-Proto names, if it was sent once and with a known one."""
    values = [value.lower() for value in head.fields.values(b"x-forwarded-proto")]
    return values[0] if values in ([b"http"], [b"https"]) else None


def forwarded_request_id(head: RequestHead) -> bytes | None:
    """The identifier that the request came with, if it is a plain one."""
    values = head.fields.values(b"x-request-id")
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else None


def _identity(allowed: Allowed) -> bytes:
    """Who asks, in whole lines."""
    lines = f"X-Auth-Subject: {_whole(allowed.subject or '')}\r\n"
    if allowed.username is not None:
        lines = f"{lines}X-Forwarded-User: {_whole(allowed.username)}\r\n"
    if allowed.email is not None:
        lines = f"{lines}X-Forwarded-Email: {_whole(allowed.email)}\r\n"
    return lines.encode() + _on_behalf(allowed.client_id, allowed.scopes, allowed.scheme)


@lru_cache(maxsize=1024)  # most tokens have been given to one of few clients, for one of few scopes
def _on_behalf(client_id: str | None, scopes: frozenset[str], scheme: str) -> bytes:
    """By which application and what it may do, in whole lines."""
    client = "" if client_id is None else f"X-Auth-Client-Id: {_whole(client_id)}\r\n"
    scope = f"X-Auth-Scope: {_whole(format_scope(scopes))}\r\n"
    return f"{client}{scope}X-Auth-Token-Type: {_whole(scheme)}\r\n".encode()


def _whole(text: str) -> str:
    """A text that ends with its line. Raises ValueError for another."""
    if "\n" in text:
        raise ValueError("a text of the caller's identity does not end with its line")
    return text


def _next_hop(head: RequestHead) -> bytes:
    """What holds for the next hop only: trailers are taken, and an upgrade is passed on (RFC 9110, section 7.8)."""
    values = head.fields.values
    codings = {member.partition(b";")[0].rstrip() for value in values(b"te") for member in list_members(value)}
    options = [b"TE"] if b"trailers" in codings else []  # RFC 9110, section 10.1.4
    lines = [b"TE: trailers"] if options else []
    if head.upgrade is not None:
        lines.append(b"Upgrade: " + values(b"upgrade")[0])
        options.append(b"Upgrade")
        if head.upgrade == websocket.PROTOCOL and (offers := websocket.offers(head.fields)):
            lines.append(b"Sec-WebSocket-Extensions: " + b", ".join(offers))
    if not options:
        return b""
    return b"\r\n".join([*lines, b"Connection: " + b", ".join(options), b""])


# -- down ------------------------------------------------------------------------------------------------------------


def client_head(
    response: ResponseHead, request_id: bytes, framing: bytes, date: bytes, *, own: bool, shape: Shape | None = None
) -> bytes:
    """The head of a final answer that the client receives; `framing` are the lines that say where it ends, and whether
    the connection stays. An answer without a Date gets this one (RFC 9110, section 6.6.1)."""
    fields = response.fields
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason or reason_of(response.status)),
            to_client(fields, response.connection, own=own, shape=shape),
            b"" if b"date" in fields else b"Date: %b\r\n" % date,
            framing,
            b"X-Request-Id: %b\r\n\r\n" % request_id,
        )
    )


def interim_head(response: ResponseHead, *, own: bool) -> bytes:
    """The head of an interim answer (RFC 9110, section 15.2)."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (
        response.status,
        response.reason or reason_of(response.status),
        to_client(response.fields, response.connection, own=own),
    )


def switching_head(response: ResponseHead, request_id: bytes, *, own: bool) -> bytes:
    """The head of an answer that changes the protocol (RFC 9110, section 15.2.2)."""
    offered = response.fields.values(b"upgrade")[0]
    lines = b"Upgrade: %b\r\nConnection: Upgrade\r\nX-Request-Id: %b\r\n\r\n" % (offered, request_id)
    return interim_head(response, own=own)[:-2] + lines
