"""Responses off the wire: bytes in, events out (RFC 9112). No socket, no clock.

    REST ──▶ HEAD ──▶ BODY ──▶ COMPLETE ──▶ REST, or HEAD where something is here already
      │       └──▶ UPGRADED       ▲
      └──────── (whole) ──────────┘

A reader gives a ResponseHead, the bytes of its body in any number of parts, and an End with the trailers; `whole` gives
head and body at once. It stays in HEAD behind interim answers, but for 101. With `expect` the owner goes on to the
answer to another request, which may be sent behind one that is COMPLETE. HEAD and BODY may end in FAULTY: the
connection is of no use any more. `closed()` says what its end means: the End of a body that lasts as long as it, or a
fault. Bytes behind a COMPLETE answer answer nothing (`buffered`); those behind UPGRADED are the new protocol's.

Some upstreams send a body behind an answer that has none, to HEAD or with 204 or 304 (RFC 9112, section 6.3, rule 1).
If it is late, it would be read as the answer to the next request: so there is none on that connection where the head
speaks of a body.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, final

from mypy_extensions import mypyc_attr

from gateway.http1.body import Body, ChunkedBody, End, LengthBody, UntilCloseBody
from gateway.http1.buffer import HeadLines
from gateway.http1.fields import Fields, Framing
from gateway.http1.grammar import (
    INTERIM_LIMIT,
    LINE_LIMIT,
    STATUS_LINE,
    VALUE,
    Malformed,
    is_length,
    list_members,
    nominated,
)
from gateway.http1.reader import MessageReader, Stage

ANSWERS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.REST: frozenset((Stage.REST, Stage.HEAD, Stage.COMPLETE)),
    Stage.HEAD: frozenset((Stage.BODY, Stage.UPGRADED, Stage.FAULTY)),
    Stage.BODY: frozenset((Stage.COMPLETE, Stage.FAULTY)),
    Stage.COMPLETE: frozenset((Stage.REST, Stage.HEAD)),
    Stage.UPGRADED: frozenset(),
    Stage.FAULTY: frozenset(),
}
_NONE: Final = frozenset[bytes]()
_PLAIN_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: (" + VALUE + rb"+))?\r\n")
_LONGEST_KEPT: Final = 64  # bytes of a status line that is remembered


@mypyc_attr(acyclic=True)
@final
class ResponseHead:
    """A response's head that passed every rule; it is never altered.

    `length` is the number of body bytes that follow, or None when they come in chunks or until the connection
    closes; `stated_length` is the Content-Length field's, which a response without a body may carry too.
    """

    __slots__ = (
        "chunked",
        "connection",
        "fields",
        "keep_alive",
        "length",
        "minor_version",
        "reason",
        "stated_length",
        "status",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        minor_version: int,
        fields: Fields,
        length: int | None,
        stated_length: int | None,
        chunked: bool,
        keep_alive: bool,
        connection: frozenset[bytes],
    ) -> None:
        self.status: Final = status
        self.reason: Final = reason
        self.minor_version: Final = minor_version
        self.fields: Final = fields
        self.length: Final = length
        self.stated_length: Final = stated_length
        self.chunked: Final = chunked
        self.keep_alive: Final = keep_alive
        self.connection: Final = connection

    @property
    def interim(self) -> bool:
        return self.status < 200


class ResponseReader(MessageReader[ResponseHead]):
    """Reads the answers of one connection, each to the request announced by `expect`: interim ones, then the final."""

    __slots__ = ("_head_lines", "_interim", "_method", "_upgrade")

    def __init__(self, method: bytes = b"GET", upgrade: bytes | None = None) -> None:
        super().__init__(ANSWERS)
        self._head_lines = HeadLines(400, hearing=_Hearing)
        self.expect(method, upgrade)

    def expect(self, method: bytes, upgrade: bytes | None = None) -> None:
        """Read the answer to a request of this method, which may have offered to change the protocol. The one before
        was complete, or nothing of it has come."""
        self._go(Stage.REST if self._buffer.rest() else Stage.HEAD)
        self._method = method
        self._upgrade = upgrade
        self._interim = 0

    def whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """The final response that `data` is with its whole body, where nothing else waits.

        The common case, without a buffer and a state for each part; where it gives None, `receive` and `next_event` do
        the same in steps.
        """
        if self.stage is not Stage.REST:
            return None
        read = self._plain_head(data)
        if read is None:
            return None
        head, size = read
        if head.length != len(data) - size or head.status < 200:
            return None
        self._go(Stage.COMPLETE)
        return head, data[size:]

    def closed(self, *, cut: bool = False) -> End:
        """The end of the connection while a body was awaited. Raises Malformed when it came too early, as does one that
        cut it off: a body that lasts as long as the connection is whole if that ended well (RFC 9112, section 8)."""
        if self.stage is not Stage.BODY:
            raise Malformed(400, "The connection ended before the response did.")
        end = self._body.closed()
        if cut:
            raise Malformed(400, "The connection broke before the response ended.")
        self._go(Stage.COMPLETE)
        return end

    def _read_head(self) -> ResponseHead | None:
        head = self._read_plain_head() or self._read_line_by_line()
        if head is None:
            return None
        if head.interim:
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise Malformed(400, "There are too many interim responses.")
            if head.status == 101:
                self._go(Stage.UPGRADED)
            return head
        self._go(Stage.BODY)
        self._body = _body_of(head)
        return head

    def _read_plain_head(self) -> ResponseHead | None:
        """The head that is here, if nothing in it is unusual and none of it has been looked at."""
        raw = self._buffer.peek_head() if self._head_lines.fresh else None
        read = None if raw is None else self._plain_head(raw)
        if read is None:
            return None
        self._buffer.skip(read[1])
        return read[0]

    def _read_line_by_line(self) -> ResponseHead | None:
        read = self._head_lines.read(self._buffer)
        if read is None:
            return None
        line, fields = read
        hearing = _Hearing(line)
        for name, _, value in fields:
            hearing.hear(name, value)
        return self._head(hearing.minor, hearing.status, hearing.reason, fields, hearing.framing)

    def _plain_head(self, data: bytes) -> tuple[ResponseHead, int] | None:
        """As in a request: what skips work and decides nothing."""
        end = data.find(b"\n", 0, LINE_LIMIT) + 1
        line = _status_line(data[:end]) if end <= _LONGEST_KEPT else _plain_status_line(data[:end])
        fields = None if line is None else Fields.at(data, end)
        if line is None or fields is None:
            return None
        minor, status, reason = line
        framing = fields.framing()
        try:
            _check(framing, minor)
            return self._head(minor, status, reason, fields, framing), fields.end + 2
        except Malformed:
            return None

    def _head(self, minor: bytes, status: int, reason: bytes, fields: Fields, framing: Framing) -> ResponseHead:
        """The head, when all its lines have been heard. Raises Malformed for a change that nobody asked for."""
        if status == 101 and (self._upgrade is None or _members(framing.upgrades) != [self._upgrade]):
            raise Malformed(400, "The protocol was changed to one that nobody asked for.")
        old, chunked = minor == b"0", bool(framing.codings)
        connection = nominated(framing.connections) if framing.connections else _NONE
        stated = int(framing.lengths[0]) if framing.lengths else None
        bodiless = self._method == b"HEAD" or status < 200 or status in (204, 304)
        return ResponseHead(
            status,
            reason,
            0 if old else 1,
            fields,
            0 if bodiless else None if chunked else stated,
            stated,
            chunked and not bodiless,
            b"close" not in connection
            and (not old or b"keep-alive" in connection)
            and not (bodiless and self._speaks_of_body(status, stated, chunked)),
            connection,
        )

    def _speaks_of_body(self, status: int, stated: int | None, chunked: bool) -> bool:
        """Whether the head reads as if a body followed; one to HEAD also where it leaves that open."""
        if stated is not None:
            return stated > 0
        return chunked or (self._method == b"HEAD" and status not in (204, 304))


def _plain_status_line(line: bytes) -> tuple[bytes, int, bytes] | None:
    """The minor version, the status and the reason; None where the line is not plain, or not right."""
    found = _PLAIN_STATUS_LINE.fullmatch(line)
    return None if found is None else (found[1], int(found[2]), found[3] or b"")


_status_line: Final = lru_cache(maxsize=128)(_plain_status_line)  # upstreams send few


class _Hearing:
    """Hears a head's lines in their order, as they come or all at once, and refuses with the first that is wrong."""

    __slots__ = ("framing", "minor", "reason", "status")

    def __init__(self, line: bytes) -> None:
        found = STATUS_LINE.fullmatch(line)
        if found is None:
            raise Malformed(400, "The status line is malformed.")
        major, self.minor, status, reason = found.groups()
        self.status, self.reason = int(status), reason or b""
        if major != b"1" or self.minor not in b"01" or not 100 <= self.status <= 599:
            raise Malformed(400, "The status line names an unknown version or status.")
        self.framing = Framing()

    def hear(self, name: bytes, value: bytes) -> None:
        if self.framing.hear(name, value):
            _check(self.framing, self.minor)


def _check(framing: Framing, minor: bytes) -> None:
    """RFC 9112, section 6.3. A lie is no response."""
    lengths, codings = framing.lengths, framing.codings
    if codings and (lengths or minor == b"0" or [coding.lower() for coding in codings] != [b"chunked"]):
        raise Malformed(400, "The framing of the response is ambiguous.")
    if lengths and (len(lengths) > 1 or not is_length(lengths[0])):
        raise Malformed(400, "The Content-Length of the response is malformed.")


def _members(values: tuple[bytes, ...]) -> list[bytes]:
    """The members of all these fields (RFC 9110, section 5.6.1)."""
    return [member for value in values for member in list_members(value)]


def _body_of(head: ResponseHead) -> Body:
    if head.length is not None:
        return LengthBody(head.length)
    return ChunkedBody() if head.chunked else UntilCloseBody()
