"""What reading requests and reading responses have in common: bytes that wait, and a body that may pass elsewhere."""

from typing import cast

from gateway.http1.body import EMPTY_BODY, Body, LengthBody
from gateway.http1.buffer import Buffer


class MessageReader:
    """The bytes of one connection's one direction, and where in a message they are."""

    __slots__ = ("_at_rest", "_body", "_buffer", "_state")

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._body: Body = EMPTY_BODY  # of the message under way, while the state says so
        self._state = "head"
        self._at_rest = True  # between two messages, with nothing of the next one here

    def receive(self, data: bytes) -> None:
        self._at_rest = False
        self._buffer.append(data)

    @property
    def buffered(self) -> int:
        """How many bytes wait to be read."""
        return len(self._buffer.data) - self._buffer.position

    @property
    def unarrived(self) -> int:
        """How many bytes of a body of known length have yet to come; 0 where what came before them is still here."""
        body = self._body
        if self._state != "body" or not isinstance(body, LengthBody) or self.buffered:
            return 0
        return body.left

    @property
    def rest(self) -> int | None:
        """How many bytes of the message under way have yet to be read, be they here or not; None where its end shows
        only once it comes."""
        body = self._body
        return body.left if isinstance(body, LengthBody) else None

    def passed_elsewhere(self, size: int) -> None:
        """So many of the bytes that had yet to come have passed elsewhere."""
        if size > self.unarrived:
            raise ValueError("more has passed than was to come")
        cast("LengthBody", self._body).left -= size

    def unread(self) -> bytes:
        """Take what follows the message: a new protocol's bytes, or what should not be there."""
        return self._buffer.take(len(self._buffer))
