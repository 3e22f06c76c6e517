"""The gateway's own answers: small JSON bodies, or a page where the request prefers one; and the end of any."""

import json
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.accept import prefers
from gateway.guard import Refused
from gateway.http1 import Field, Malformed, RequestHead, websocket
from gateway.refusals import RefusalPage, RefusedVisit
from gateway.routing.fields import trailers
from gateway.routing.sign_in import way_back

_SOON = 2  # seconds
_ERRORS = {
    400: "invalid_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "content_too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    421: "misdirected_request",
    429: "too_many_requests",
    431: "header_fields_too_large",
    500: "server_error",
    501: "not_implemented",
    502: "bad_gateway",
    503: "temporarily_unavailable",
    504: "gateway_timeout",
    505: "http_version_not_supported",
}


# What the operator may do, where whoever refuses says nothing nearer to it.
_MENDS = {
    400: "ask the client's developer to correct the request: the cause says what is wrong with it",
    403: "change the route's allow or deny, or have the client call from elsewhere; a proxy in front must be among "
    "server.trusted_proxies and say in X-Forwarded-For who called",
    404: "correct the address that the client calls, or add a route whose path, hosts and methods match it",
    405: "have the client use another method, or add this one to the route's methods",
    408: "see why the client or the network is so slow",
    413: "have the client send less, or raise the route's max_body",
    414: "have the client send a shorter address",
    417: "have the client send no Expect other than 100-continue",
    421: "have the client call the host of server.public_url; a proxy in front must pass Host on unchanged",
    426: "have the client speak the WebSocket of RFC 6455, version 13",
    429: "have the client call less often, or raise the limit",
    431: "have the client send fewer or shorter header fields; cookies are the usual cause",
    500: "this is a bug in the gateway: report it with the log lines of this request_id",
    501: "have the client do without this; the gateway does not support it",
    502: "check that the upstream is running, that the route has its address, and what its own log says",
    503: "see why the upstream is slow, or give it more capacity; the client may try again",
    504: "see why the upstream is slow; the route's timeout is how long it may take",
    505: "have the client use HTTP/1.1",
}


def refusal(
    status: int,
    description: str,
    *,
    error: str = "",
    cause: str = "",
    mend: str = "",
    upstream: str = "",
    allow: tuple[bytes, ...] = (),
) -> Refused:
    """A refusal of the proxy's own; its error code and mend follow from the status unless others are given."""
    return Refused(
        status=status,
        error=error or _ERRORS[status],
        description=description,
        cause=cause,
        mend=mend or _MENDS[status],
        upstream=upstream,
        allow=allow,
    )


BAD_HANDSHAKE: Final = "bad_handshake"  # a WebSocket's
DRAINED: Final = refusal(
    503,
    "The gateway is being replaced; connect again.",
    error="drained",
    cause="another worker has taken over, and the time of the route's drain was over",
    mend="nothing: clients of streams connect again; the route's drain is how long they may stay",
)


def wrong_handshake(head: RequestHead) -> Refused | None:
    """The refusal of a call that means to open a WebSocket and opens none."""
    wrong = websocket.wrong_handshake(head.method, head.fields) if head.upgrade == websocket.PROTOCOL else None
    return None if wrong is None else refusal(wrong[0], wrong[1], error=BAD_HANDSHAKE)


def malformed(fault: Malformed) -> Refused:
    """The refusal of a request that broke the grammar or a limit of HTTP."""
    return refusal(fault.status, fault.description)


def too_large(limit: int) -> Refused:
    """The refusal of a body that is longer than its route takes."""
    return refusal(413, f"The body is larger than {limit} bytes.")


def too_slow(upstream: str, did_not: str, seconds: float, limit: str) -> Refused:
    """The refusal where an upstream did not do something in the time that `limit` gives it."""
    cause = f"{upstream} {did_not} in {seconds:g}s ({limit})"
    return refusal(504, "The upstream did not answer in time.", cause=cause, upstream=upstream)


def reason_of(status: int) -> bytes:
    """The reason phrase that is registered for the status; none where there is none."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def prefers_html(head: RequestHead) -> bool:
    """Whether the request would rather have a page than JSON (RFC 9110, section 12.5.1): a browser's navigation."""
    return prefers(head.fields.values(b"accept"), b"text/html", over=b"application/json")


def render(
    refused: Refused,
    request_id: bytes,
    date: bytes,
    lines: bytes = b"",
    page: RefusalPage | None = None,
    asked: RequestHead | None = None,
    *,
    bodiless: bool = False,
) -> bytes:
    """The bytes of a refusal: JSON, or what `page` makes of it for people.

    `lines` are further ones of the head, whole, such as the connection's; `asked` is the request's head, where that was
    read; `bodiless` answers HEAD.
    """
    if page is None or asked is None:
        head, before, behind = _json_around(refused)
        body = b"".join((before, request_id, behind))
    else:
        head, body = _page_of(refused, request_id, page, asked)
    return b"%bDate: %b\r\nX-Request-Id: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
        head,
        date,
        request_id,
        lines,
        len(body),
        b"" if bodiless else body,
    )


def _page_of(refused: Refused, request_id: bytes, page: RefusalPage, asked: RequestHead) -> tuple[bytes, bytes]:
    """The head and the body of a refusal for people."""
    again = way_back(asked.target) if asked.method == b"GET" else ""
    host = asked.host.decode("ascii", "replace")
    fields, body = page(
        RefusedVisit(refused.status, request_id.decode(), refused.error, host, again, refused.retry_after)
    )
    own = b"".join(
        b"%b: %b\r\n" % (name.encode(), value.encode())
        for name, value in fields.items()
        if name.lower() not in ("cache-control", "content-length")  # said anyway
    )
    return _head_of(refused) + own, body


@lru_cache(maxsize=256)  # refusals recur, and a flood of them must cost less than what it asks for
def _json_around(refused: Refused) -> tuple[bytes, bytes, bytes]:
    """A refusal for programs: its head, and what stands in its body before and behind the request's identifier."""
    members = {"error": refused.error or _ERRORS.get(refused.status, "unauthorized")}
    members |= {"error_description": refused.description, "request_id": ""}
    head = _head_of(refused) + b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    body = json.dumps(members).encode()
    return head, body[:-2], body[-2:]


def _head_of(refused: Refused) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (refused.status, reason_of(refused.status)), b"Cache-Control: no-store"]
    lines += [b"WWW-Authenticate: " + challenge for challenge in refused.challenges]
    if refused.allow:
        lines.append(b"Allow: " + b", ".join(refused.allow))  # RFC 9110, section 15.5.6
    if refused.accept_signature:
        lines.append(b"Accept-Signature: " + refused.accept_signature)
    if refused.location:
        lines.append(b"Location: " + refused.location)
    if refused.dpop_nonce:
        lines.append(b"DPoP-Nonce: " + refused.dpop_nonce)
    if refused.status == 426:  # RFC 9110, section 15.5.22, and RFC 6455, section 4.4
        lines += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"]
    if refused.retry_after or refused.status == 503:
        lines.append(b"Retry-After: %d" % (refused.retry_after or _SOON))
    return b"\r\n".join([*lines, refused.limits])


def last_chunk(fields: tuple[Field, ...]) -> bytes:
    """The end of a chunked body, with the trailers that may pass (RFC 9112, section 7.1.2)."""
    if not fields:
        return b"0\r\n\r\n"
    lines = [name + b": " + value + b"\r\n" for name, value in trailers(fields)]
    return b"0\r\n" + b"".join(lines) + b"\r\n"
