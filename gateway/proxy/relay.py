"""An answer on its way down: which fields pass, its framing written anew, all that was read at once in one write."""

from typing import Final, Protocol

from gateway.http1 import End, RequestHead, ResponseHead
from gateway.proxy.answers import last_chunk
from gateway.proxy.forwarding import ANSWER_BEGINS, client_head, interim_head, switching_head
from gateway.routing.fields import Shape, shaped


class Recipient(Protocol):
    """Who gets an answer."""

    def write_all(self, parts: list[bytes]) -> None:
        """Send all of it at once."""

    def persistence(self, head: RequestHead | None, *, until_close: bool = False) -> bytes:
        """The Connection line of an answer, if it needs one; only the connection's end ends one `until_close`."""

    def break_off(self, *, looks_broken: bool) -> None:
        """End the connection; what has gone out looks broken by its framing, or only by a reset."""


class Relay:
    """One answer, the interim ones before it included; `response` is its head once that has come.

    `sent` counts the bytes of the body. Answers of our own pages (`own`) may set our cookies; `shape` is what the route
    makes of an answer's fields.
    """

    __slots__ = (
        "_chunked",
        "_date",
        "_own",
        "_recipient",
        "_request",
        "_request_id",
        "_shape",
        "_waiting",
        "response",
        "sent",
    )

    def __init__(
        self,
        recipient: Recipient,
        request: RequestHead,
        request_id: bytes,
        date: bytes,
        *,
        own: bool,
        shape: Shape | None = None,
    ) -> None:
        self.response: ResponseHead | None = None
        self.sent = 0
        self._recipient: Final = recipient
        self._request: Final = request
        self._request_id: Final = request_id
        self._date: Final = date
        self._own: Final = own
        self._shape: Final = shape
        self._chunked = False
        self._waiting: list[bytes] = []  # to be written

    def interim(self, head: ResponseHead) -> None:
        """RFC 9110, section 15.2: interim answers go to clients that know them."""
        if self._request.minor_version >= 1:
            self._waiting.append(interim_head(head, own=self._own))

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """The final head with all of its body, whose length it says."""
        self.sent = len(body)
        self._recipient.write_all([self._begun(head), body])

    def begin(self, head: ResponseHead) -> None:
        """The final head."""
        self._waiting.append(self._begun(head))

    def _begun(self, head: ResponseHead) -> bytes:
        """The head as the client receives it, from now on."""
        self.response = head
        framing, until_close = b"", False
        if head.length is None and self._request.minor_version == 1:
            self._chunked = True
            framing = b"Transfer-Encoding: chunked\r\n"
        elif head.length is None:
            until_close = True
        elif head.stated_length is not None and head.status != 204:
            framing = b"Content-Length: %d\r\n" % head.stated_length
        framing += self._recipient.persistence(self._request, until_close=until_close)
        return client_head(head, self._request_id, framing, self._date, own=self._own, shape=self._shape)

    def part(self, data: bytes) -> None:
        """The next part of the body."""
        self.sent += len(data)
        if self._chunked:
            self._waiting += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._waiting.append(data)

    def passed(self, size: int) -> None:
        """So much of the body has passed by another way."""
        self.sent += size

    def end(self, end: End) -> None:
        """The body has ended."""
        if self._chunked:
            trailer = end.trailers if self._shape is None else shaped(end.trailers, self._shape)
            self._waiting.append(last_chunk(trailer))
        self.flush()

    def switch(self, head: ResponseHead) -> None:
        """The protocol changes."""
        self.response = head
        self._waiting.append(switching_head(head, self._request_id, own=self._own))
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._recipient.write_all(self._waiting)
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
        self._recipient.break_off(looks_broken=ends_visibly)
