"""An answer on its way down: which fields pass, its framing written anew, all that was read at once in one write."""

from typing import TYPE_CHECKING, Final

from gateway.http1 import End, RequestHead, ResponseHead
from gateway.proxy.answers import last_chunk, reason_of
from gateway.routing.fields import to_client

if TYPE_CHECKING:
    from gateway.proxy.front import Front


ANSWER_BEGINS: Final = b"HTTP/1.1 "  # whatever the answer, and whoever gives it


class Relay:
    """One answer, the interim ones before it included; `response` is its head once that has come."""

    __slots__ = ("_chunked", "_front", "_own", "_request", "_request_id", "_waiting", "response")

    def __init__(self, front: "Front", request: RequestHead, request_id: bytes, *, own: bool) -> None:
        self.response: ResponseHead | None = None
        self._front = front
        self._request = request
        self._request_id = request_id
        self._own = own  # the authorization plane's, which may set our cookies
        self._chunked = False
        self._waiting: list[bytes] = []  # to be written

    def interim(self, head: ResponseHead) -> None:
        """RFC 9110, section 15.2: interim answers go to clients that know them."""
        if self._request.minor_version >= 1:
            self._waiting.append(b"\r\n".join((*self._passing(head), b"", b"")))

    def begin(self, head: ResponseHead) -> None:
        """The final head. It is remembered as rendered where the next answer like it would look the same."""
        self.response = head
        usual = self._front.usual(self._request)
        self._chunked = head.length is None and self._request.minor_version == 1
        rendered = head.rendered if usual else None
        if rendered is None:
            rendered, date = self._rendered(head)
            if usual and date is not None:
                head.rendered = rendered
        self._waiting.append(b"%bX-Request-Id: %b\r\n\r\n" % (rendered, self._request_id))

    def part(self, data: bytes) -> None:
        """The next part of the body."""
        if self._chunked:
            self._waiting += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._waiting.append(data)

    def end(self, end: End) -> None:
        """The body has ended."""
        if self._chunked:
            self._waiting.append(last_chunk(end.trailers))
        self.flush()

    def switch(self, head: ResponseHead) -> None:
        """The protocol changes (RFC 9110, section 15.2.2)."""
        offered = next(value for lower, _, value in head.fields if lower == b"upgrade")
        lines = [*self._passing(head), b"Upgrade: " + offered, b"Connection: Upgrade", b"", b""]
        self._waiting.append(b"\r\n".join(lines))
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._front.write_all(self._waiting)
            self._waiting = []

    @property
    def ahead(self) -> bytes:
        """What the next writing may begin with: the status line, or a chunk's size, with a zero before it."""
        if self.response is None:
            return ANSWER_BEGINS
        return b"0" if self._chunked else b""

    def break_off(self) -> None:
        """The rest will not come, and what has gone out must not look complete."""
        self.flush()
        ends_visibly = self._chunked or (self.response is not None and self.response.length is not None)
        self._front.break_off(looks_broken=ends_visibly)

    def _rendered(self, head: ResponseHead) -> tuple[bytes, bytes | None]:
        """The head but for the request's identifier, and the upstream's Date."""
        lines = self._passing(head)
        date = next((value for lower, _, value in head.fields if lower == b"date"), None)
        if date is None:
            lines.append(b"Date: " + self._front.proxy.date)  # RFC 9110, section 6.6.1
        if self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.length is None:
            self._front.keep_alive = False
        elif head.stated_length is not None and head.status != 204:
            lines.append(b"Content-Length: %d" % head.stated_length)
        lines += self._front.persistence(self._request)
        return b"\r\n".join([*lines, b""]), date

    def _passing(self, head: ResponseHead) -> list[bytes]:
        """The status line and the fields that pass."""
        fields = to_client(head.fields, head.connection, own=self._own)
        lines = [ANSWER_BEGINS + b"%d %b" % (head.status, head.reason or reason_of(head.status))]
        lines += [name + b": " + value for name, value in fields]
        return lines
