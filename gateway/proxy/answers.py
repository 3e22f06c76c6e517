"""The gateway's own answers: small JSON bodies, or a page where the request prefers one."""

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus

from gateway.guard import Refused
from gateway.http1 import Malformed, RequestHead

RefusalPage = Callable[[int, str, str, str], tuple[dict[str, str], bytes]]
"""(status, title, text, request id) → (fields, HTML)."""

_ERRORS = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "content_too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    421: "misdirected_request",
    431: "header_fields_too_large",
    500: "server_error",
    501: "not_implemented",
    502: "bad_gateway",
    503: "temporarily_unavailable",
    504: "gateway_timeout",
    505: "http_version_not_supported",
}


def refusal(status: int, description: str, *, error: str = "", cause: str = "") -> Refused:
    """A refusal of the proxy's own; its error code follows from the status unless one is given."""
    return Refused(status=status, error=error or _ERRORS[status], description=description, cause=cause)


def malformed(fault: Malformed) -> Refused:
    """The refusal of a request that broke the grammar or a limit of HTTP."""
    return refusal(fault.status, fault.description)


def reason_of(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def prefers_html(head: RequestHead | None) -> bool:
    """Whether the request would rather have a page than JSON (RFC 9110, section 12.5.1): a browser's navigation."""
    if head is None:
        return False
    weights = {b"text/html": 0.0, b"application/json": 0.0}
    for value in head.values(b"accept"):
        for member in value.lower().split(b","):
            media, _, parameters = member.partition(b";")
            if media.strip() in weights:
                weights[media.strip()] = max(weights[media.strip()], _quality(parameters))
    return weights[b"text/html"] > weights[b"application/json"]


def _quality(parameters: bytes) -> float:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def render(
    refused: Refused,
    request_id: bytes,
    head: RequestHead | None,
    page: RefusalPage,
    date: bytes,
    *,
    close: bool,
    fields: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """The bytes of a refusal. `head` is None where none could be read; `page` renders it for people."""
    reason = reason_of(refused.status)
    if prefers_html(head):
        page_fields, body = page(refused.status, reason.decode(), refused.description, request_id.decode())
        own = [(name.encode(), value.encode()) for name, value in page_fields.items()]
    else:
        members = {"error": refused.error or _ERRORS.get(refused.status, "unauthorized")}
        members |= {"error_description": refused.description, "request_id": request_id.decode()}
        body = json.dumps(members).encode()
        own = [(b"Content-Type", b"application/json"), (b"X-Content-Type-Options", b"nosniff")]
    lines = [b"HTTP/1.1 %d %b" % (refused.status, reason), b"Date: " + date]
    lines += [name + b": " + value for name, value in own if name.lower() not in (b"content-length", b"cache-control")]
    lines += [b"WWW-Authenticate: " + challenge for challenge in refused.challenges]
    lines += [name + b": " + value for name, value in fields]
    lines += [b"Cache-Control: no-store", b"X-Request-Id: " + request_id]
    if refused.status == 503:
        lines.append(b"Retry-After: 2")
    lines += [b"Content-Length: %d" % len(body), *([b"Connection: close"] if close else []), b"", b""]
    return b"\r\n".join(lines) + (b"" if head is not None and head.method == b"HEAD" else body)
