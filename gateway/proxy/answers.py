"""The gateway's own answers: small JSON bodies, or a page where the request prefers one; and the end of any."""

import json
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.accept import prefers
from gateway.errors import FieldPair, Refused, code_of
from gateway.http1 import Field, Malformed, RequestHead, websocket
from gateway.refusals import RefusalPage, RefusedVisit
from gateway.routing.fields import trailers
from gateway.routing.sign_in import way_back
from gateway.schemes import CREDENTIAL_FIELDS

_SOON: Final = 2  # seconds
_BUSY: Final = "see why the upstream is slow, or give it more capacity; the client may try again"
_VERSION: Final = "have the client speak the WebSocket of RFC 6455, version 13"
_UPGRADE: Final = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))

BODY_LATE: Final = Refused("request_timeout", "The request's body did not arrive in time.")
DRAINED: Final = Refused(
    "drained",
    "The gateway is being replaced; connect again.",
    "another worker has taken over, and the time of the route's drain was over",
)
ENDED: Final = Refused(
    "drained",
    "The gateway has ended.",
    "the gateway ended, or was replaced, before the call did: its time to drain was over",
)


def wrong_handshake(head: RequestHead) -> Refused | None:
    """The refusal of a call that means to open a WebSocket and opens none."""
    wrong = websocket.wrong_handshake(head.method, head.fields) if head.upgrade == websocket.PROTOCOL else None
    if wrong is None:
        return None
    status, text = wrong
    if status != 426:
        return Refused("bad_handshake", text)
    # RFC 9110, section 15.5.22, and RFC 6455, section 4.4
    return Refused("bad_handshake", text, status=status, mend=_VERSION, fields=_UPGRADE)


def malformed(fault: Malformed) -> Refused:
    """The refusal of a request that broke the grammar or a limit of HTTP."""
    return Refused(code_of(fault.status), fault.description)


def too_large(limit: int) -> Refused:
    """The refusal of a body that is longer than its route takes."""
    return Refused("content_too_large", f"The body is larger than {limit} bytes.")


def too_slow(upstream: str, did_not: str, seconds: float, limit: str) -> Refused:
    """The refusal where an upstream did not do something in the time that `limit` gives it."""
    cause = f"{upstream} {did_not} in {seconds:g}s ({limit})"
    return Refused("gateway_timeout", "The upstream did not answer in time.", cause, upstream=upstream)


def out_of_reach(status: int, cause: str, upstream: str) -> Refused:
    """The refusal where no upstream takes the call: 502, 503 or 504."""
    if status != 503:
        return Refused(code_of(status), "The upstream cannot be reached.", cause, upstream=upstream)
    return Refused("temporarily_unavailable", "The upstream is busy.", cause, mend=_BUSY, upstream=upstream)


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
) -> tuple[bytes, bytes]:
    """The head of a refusal and its body: JSON, or what `page` makes of it for people.

    `lines` are further ones of the head, whole, such as the connection's; `asked` is the request's head, where that was
    read; `bodiless` answers HEAD.
    """
    if page is None or asked is None:
        head, before, behind = _json_around(refused)
        body = b"".join((before, request_id, behind))
    else:
        head, body = _page_of(refused, request_id, page, asked)
    head = b"%bDate: %b\r\nX-Request-Id: %b\r\n%bContent-Length: %d\r\n\r\n" % (
        head,
        date,
        request_id,
        lines,
        len(body),
    )
    return head, b"" if bodiless else body


def _page_of(refused: Refused, request_id: bytes, page: RefusalPage, asked: RequestHead) -> tuple[bytes, bytes]:
    """The head and the body of a refusal for people."""
    again = way_back(asked.target) if asked.method == b"GET" else ""
    host = asked.host.decode("ascii", "replace")
    fields, body = page(RefusedVisit(refused, request_id.decode(), host, again))
    own = [one for one in fields.items() if one[0].lower() not in ("cache-control", "content-length")]  # said anyway
    return _head_of(refused) + lines_of(own), body


@lru_cache(maxsize=256)  # refusals recur, and a flood of them must cost less than what it asks for
def _json_around(refused: Refused) -> tuple[bytes, bytes, bytes]:
    """A refusal for programs: its head, and what stands in its body before and behind the request's identifier."""
    head = _head_of(refused) + b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    body = json.dumps(refused.body("")).encode()
    return head, body[:-2], body[-2:]


def _head_of(refused: Refused) -> bytes:
    status = b"HTTP/1.1 %d %b\r\nCache-Control: no-store\r\n" % (refused.status, reason_of(refused.status))
    return status + lines_of(refused.head(_SOON))


def lines_of(fields: Iterable[FieldPair]) -> bytes:
    """Fields as lines of a head."""
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode()


def last_chunk(fields: tuple[Field, ...]) -> bytes:
    """The end of a chunked body, with the trailers that may pass (RFC 9112, section 7.1.2)."""
    if not fields:
        return b"0\r\n\r\n"
    lines = [name + b": " + value + b"\r\n" for name, value in trailers(fields, CREDENTIAL_FIELDS)]
    return b"0\r\n" + b"".join(lines) + b"\r\n"
