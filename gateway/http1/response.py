"""Responses off the wire: bytes in, events out (RFC 9112). No socket, no clock.

    state       next_event() gives                            then
    ─────────   ───────────────────────────────────────────   ────────────────────────────────
    HEAD        None while the head is incomplete             HEAD
                ResponseHead with status 1xx                  HEAD (UPGRADED after 101)
                ResponseHead                                  BODY
    BODY        bytes, any number of times                    BODY
                End, with the trailers                        COMPLETE
    COMPLETE    None; a byte that is left over is a fault of
    UPGRADED    the upstream (`unread`), or the new protocol
    any         raises Malformed                              FAULTY

`closed()` says what the end of the connection means: the End of a body that lasts as long as it, or a fault.

Some upstreams send a body behind an answer that has none, to HEAD or with 204 or 304 (RFC 9112, section 6.3, rule 1).
If it is late, it would be read as the answer to the next request: so there is none on that connection where the head
speaks of a body.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.http1.body import Body, ChunkedBody, End, LengthBody, UntilCloseBody
from gateway.http1.buffer import HeadLines, Memo
from gateway.http1.grammar import (
    CONTENT_LENGTH,
    INTERIM_LIMIT,
    STATUS_LINE,
    Field,
    Malformed,
    list_members,
)
from gateway.http1.reader import MessageReader


@dataclass(slots=True, eq=False)
class ResponseHead:
    """A response's head that passed every rule.

    `length` is the number of body bytes that follow, or None when they come in chunks or until the connection
    closes; `stated_length` is the Content-Length field's, which a response without a body may carry too.
    """

    status: int
    reason: bytes
    minor_version: int
    fields: tuple[Field, ...]
    length: int | None
    stated_length: int | None
    chunked: bool
    keep_alive: bool
    connection: frozenset[bytes]
    rendered: bytes | None = None  # what the owner made of this head, so that a head seen again costs little

    @property
    def interim(self) -> bool:
        return self.status < 200


ResponseEvent = ResponseHead | bytes | End


class ResponseReader(MessageReader):
    """Reads the answers of one connection, each to the request announced by `expect`: interim ones, then the final."""

    __slots__ = ("_head_lines", "_interim", "_last", "_memo", "_method", "_plain", "_raw", "_upgrade")

    def __init__(self, method: bytes = b"GET", upgrade: bytes | None = None) -> None:
        super().__init__()
        self._head_lines = HeadLines(400, judge=_Judge)
        self._memo = Memo[ResponseHead]()
        self._raw = b"\r\n"  # the bytes of the last head that was read whole; no head begins like this
        self._last: ResponseHead | None = None  # what they mean
        self.expect(method, upgrade)

    def expect(self, method: bytes, upgrade: bytes | None = None) -> None:
        """Read the answer to a request of this method, which may have offered to change the protocol."""
        self._method = method
        self._upgrade = upgrade
        self._plain = upgrade is None and method != b"HEAD"  # then a head means the same each time
        self._at_rest = len(self._buffer.data) == self._buffer.position  # nothing of the answer is here
        self._state = "head"
        self._interim = 0

    def next_event(self) -> ResponseEvent | None:
        """The next event, or None while more bytes are needed. Raises Malformed."""
        if self._state == "head":
            return self._read_head()
        if self._state == "body":
            event = self._body.read(self._buffer)
            if isinstance(event, End):
                self._state = "complete"
            return event
        return None

    def whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """The response that `data` is, if it is a remembered head with its whole body and nothing else waits.

        The common case in one look-up; where it gives None, `receive` and `next_event` do the same in steps.
        """
        if not (self._at_rest and self._plain):
            return None
        raw = self._raw
        if data.startswith(raw):
            head = self._last
        else:
            raw = data[: data.find(b"\r\n\r\n", 0, Memo.LONGEST) + 4]
            head = self._memo.get(raw)
        if head is None or head.length != len(data) - len(raw):
            return None
        self._at_rest = False
        self._raw, self._last = raw, head
        self._state = "complete"
        return head, data[len(raw) :]

    def closed(self, *, cut: bool = False) -> End:
        """The end of the connection while a body was awaited. Raises Malformed when it came too early, as does one that
        cut it off: a body that lasts as long as the connection is whole if that ended well (RFC 9112, section 8)."""
        if self._state != "body":
            raise Malformed(400, "The connection ended before the response did.")
        end = self._body.closed()
        if cut:
            raise Malformed(400, "The connection broke before the response ended.")
        self._state = "complete"
        return end

    def _read_head(self) -> ResponseHead | None:
        raw = self._buffer.peek_head() if self._plain and self._head_lines.fresh else None
        head = None if raw is None else self._memo.get(raw)
        if head is not None and raw is not None:
            self._buffer.skip(len(raw))
        else:
            read = self._head_lines.read(self._buffer)
            if read is None:
                return None
            line, fields = read
            judge = _Judge(line)
            judge.add(fields)
            head = judge.head(self._method, self._upgrade)
            if raw is not None and not head.interim:
                self._memo.remember(raw, head)
        if head.interim:
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise Malformed(400, "There are too many interim responses.")
            self._state = "upgraded" if head.status == 101 else "head"
            return head
        self._state = "body"
        self._body = _body_of(head)
        return head


class _Judge:
    """Hears a head's lines in their order, as they come or all at once, and refuses with the first that is wrong."""

    __slots__ = ("_codings", "_connection", "_fields", "_lengths", "_minor", "_reason", "_status", "_upgrades")

    def __init__(self, line: bytes) -> None:
        found = STATUS_LINE.fullmatch(line)
        if found is None:
            raise Malformed(400, "The status line is malformed.")
        self._minor, self._status, self._reason = int(found[2]), int(found[3]), found[4] or b""
        if found[1] != b"1" or self._minor > 1 or not 100 <= self._status <= 599:
            raise Malformed(400, "The status line names an unknown version or status.")
        self._fields = list[Field]()
        self._connection, self._upgrades = set[bytes](), list[bytes]()
        self._lengths, self._codings = list[bytes](), list[bytes]()

    def add(self, fields: Iterable[Field]) -> None:
        for field in fields:
            lower, _, value = field
            self._fields.append(field)
            if lower == b"content-length":
                self._lengths.append(value)
                _judge_framing(self._lengths, self._codings, self._minor == 0)
            elif lower == b"transfer-encoding":
                self._codings.append(value)
                _judge_framing(self._lengths, self._codings, self._minor == 0)
            elif lower == b"connection":
                self._connection.update(list_members(value))
            elif lower == b"upgrade":
                self._upgrades.extend(list_members(value))

    def head(self, method: bytes, upgrade: bytes | None) -> ResponseHead:
        """The head of an answer to a request of this method, when all its lines have been heard."""
        status, minor, connection = self._status, self._minor, self._connection
        if status == 101 and (upgrade is None or self._upgrades != [upgrade]):
            raise Malformed(400, "The protocol was changed to one that nobody asked for.")
        stated, chunked = int(self._lengths[0]) if self._lengths else None, bool(self._codings)
        bodiless = method == b"HEAD" or status < 200 or status in (204, 304)
        return ResponseHead(
            status,
            self._reason,
            minor,
            tuple(self._fields),
            0 if bodiless else None if chunked else stated,
            stated,
            chunked and not bodiless,
            self._persists(bodiless and self._speaks_of_body(method)),
            frozenset(connection),
        )

    def _persists(self, deceptive: bool) -> bool:
        """RFC 9112, section 9.3."""
        connection = self._connection
        return not deceptive and b"close" not in connection and (self._minor == 1 or b"keep-alive" in connection)

    def _speaks_of_body(self, method: bytes) -> bool:
        """Whether the head reads as if a body followed; one to HEAD also where it leaves that open."""
        if self._lengths:
            return int(self._lengths[0]) > 0
        return bool(self._codings) or (method == b"HEAD" and self._status not in (204, 304))


def _body_of(head: ResponseHead) -> Body:
    if head.length is not None:
        return LengthBody(head.length)
    return ChunkedBody() if head.chunked else UntilCloseBody()


def _judge_framing(lengths: list[bytes], codings: list[bytes], old: bool) -> None:
    """RFC 9112, section 6.3. A lie is no response."""
    if codings and (lengths or old or [coding.lower() for coding in codings] != [b"chunked"]):
        raise Malformed(400, "The framing of the response is ambiguous.")
    if len(lengths) > 1 or any(CONTENT_LENGTH.fullmatch(value) is None for value in lengths):
        raise Malformed(400, "The Content-Length of the response is malformed.")
