"""Requests off the wire: bytes in, events out (RFC 9112). No socket, no clock.

    state       next_event() gives                       then
    ─────────   ──────────────────────────────────────   ─────────────────────────────────────────
    HEAD        None while the head is incomplete        HEAD
                RequestHead                              BODY
    BODY        bytes, any number of times               BODY
                End, with the trailers                   COMPLETE
    COMPLETE    None; what arrives is kept               HEAD after next_request(), which the owner
                                                         calls when the answer is on its way
    any         raises Malformed                         FAULTY: raises it again, for ever

After a request that asks for an upgrade the reader stays COMPLETE: what follows belongs to the new protocol, if
the server agrees (`unread()`), or to the next request.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.http1.body import EMPTY_BODY, ChunkedBody, End, LengthBody
from gateway.http1.buffer import Buffer, HeadLines, Memo
from gateway.http1.grammar import (
    CONTENT_LENGTH,
    HOST,
    PROTOCOL,
    REQUEST_LINE,
    Field,
    Malformed,
    list_members,
)
from gateway.http1.reader import MessageReader


@dataclass(slots=True, eq=False)
class RequestHead:
    """A request's head that passed every rule. `target` and the field values are the bytes as they came.

    `authorization` holds every Authorization field's value; `fields` all other fields, in their order. For heads
    that differ in their one credential only, the reader gives one and the same object, with another `authorization`.
    `length` is the body's, or None when it comes in chunks; `host` is the Host field's value (b"" only for an
    HTTP/1.0 request without one); `upgrade` is the one protocol that the client offers to change to.
    """

    method: bytes
    target: bytes
    minor_version: int
    fields: tuple[Field, ...]
    authorization: tuple[bytes, ...]
    length: int | None
    host: bytes
    keep_alive: bool
    connection: frozenset[bytes]
    upgrade: bytes | None
    expects_continue: bool
    plan: object = None  # what the owner made of this head, so that a head seen again is not thought about again

    def values(self, name: bytes) -> Iterator[bytes]:
        """Every value of a field, by its lower-case name."""
        return (value for lower, _, value in self.fields if lower == name)


RequestEvent = RequestHead | bytes | End


# The one field that differs between requests that are otherwise alike, as nearly all clients write it.
_AUTHORIZATION = b"\r\nAuthorization: "
_VISIBLE_OR_SPACE = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in range(256))  # as they are, or "?"
_LONGEST_CREDENTIAL = 4096
_LONGEST = Memo.LONGEST + _LONGEST_CREDENTIAL


class RequestReader(MessageReader):
    """Reads the requests of one connection, one after another."""

    __slots__ = ("_around", "_fault", "_head_lines", "_last", "_memo", "_raw", "_started")

    def __init__(self) -> None:
        super().__init__()
        self._head_lines = HeadLines(414, judge=_Judge)
        self._memo = Memo[RequestHead]()
        self._started = False  # the empty line that may precede a request line was skipped, or cannot come
        self._fault: Malformed | None = None
        self._raw = b"\r\n"  # the bytes of the last head that was read whole; no head begins like this
        self._last: RequestHead | None = None  # what they mean
        self._around: tuple[bytes, bytes] | None = None  # what of them stands before and behind the credential

    @property
    def first_chunk_seen(self) -> bool:
        """Whether nothing can be wrong with the beginning of the body any more."""
        return not isinstance(self._body, ChunkedBody) or self._body.whole_chunks > 0

    @property
    def announced(self) -> int:
        """How many bytes the chunk under way has yet to bring, by its size line."""
        return self._body.left if isinstance(self._body, ChunkedBody) else 0

    def whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The request that `data` is, if it is a remembered head with its whole body and nothing else waits.

        The common case in one look-up; where it gives None, `receive` and `next_event` do the same in steps.
        """
        if not self._at_rest:
            return None
        raw, around = self._raw, self._around
        if data.startswith(raw):
            head = self._last
        elif around is not None and data.startswith(around[0]) and data.endswith(around[1]):
            return self._again(data, *around)
        else:
            end = data.find(b"\r\n\r\n", 0, _LONGEST) + 4
            raw = data if end == len(data) else data[:end]
            head = self._known(raw)
        if head is None or head.length != len(data) - len(raw):
            return None
        self._at_rest = False
        self._state = "complete"
        return head, data[len(raw) :]

    def _again(self, data: bytes, before: bytes, behind: bytes) -> tuple[RequestHead, bytes] | None:
        """The last request with another credential, if that is what stands between these two; it has no body."""
        credential = data[len(before) : -len(behind)]
        head = self._last
        if head is None or not _is_plain(credential):
            return None
        head.authorization = (credential,)
        self._raw = data
        self._at_rest = False
        self._state = "complete"
        return head, b""

    def _known(self, raw: bytes) -> RequestHead | None:
        """The head that these bytes are, if they are remembered but for their credential."""
        if len(raw) > _LONGEST:
            return None
        before, credential, behind = _split(raw)
        head = self._memo.get(before + behind)
        if head is None:
            return None
        if credential is not None:
            if not _is_plain(credential):
                return None  # to be read with all care
            head.authorization = (credential,)
        self._raw, self._last = raw, head
        self._around = (before, behind) if credential is not None and head.length == 0 else None
        return head

    def _remember(self, raw: bytes, head: RequestHead) -> None:
        before, credential, behind = _split(raw)
        # Not if there are more than one, or white space around it: then the key does not say all but the credential.
        if credential is None or head.authorization == (credential,):
            self._memo.remember(before + behind, head)

    def next_event(self) -> RequestEvent | None:
        """The next event, or None while more bytes or `next_request` are needed. Raises Malformed."""
        if self._fault is not None:
            raise self._fault
        try:
            if self._state == "head":
                return self._read_head()
            if self._state == "body":
                event = self._body.read(self._buffer)
                if isinstance(event, End):
                    self._state = "complete"
                return event
        except Malformed as fault:
            self._fault = fault
            raise
        return None

    def next_request(self) -> bool:
        """Go on to the next request of the connection; whether nothing of it is here yet."""
        self._state, self._started = "head", False
        self._at_rest = len(self._buffer.data) == self._buffer.position
        return self._at_rest

    def forget(self) -> None:
        """Drop the heads that were remembered; an idle connection should cost little."""
        self._memo.clear()
        self._raw, self._last, self._around = b"\r\n", None, None
        if self._buffer.data and not self.buffered:
            self._buffer = Buffer()  # it still had what was read last

    def _read_head(self) -> RequestHead | None:
        buffer = self._buffer
        raw = buffer.peek_head() if self._head_lines.fresh else None
        head = None if raw is None else self._known(raw)
        if head is not None and raw is not None:
            buffer.skip(len(raw))
        else:
            head = self._read_new_head(raw)
            if head is None:
                return None
        length = head.length
        self._body = EMPTY_BODY if length == 0 else ChunkedBody() if length is None else LengthBody(length)
        self._state = "body"
        return head

    def _read_new_head(self, raw: bytes | None) -> RequestHead | None:
        buffer = self._buffer
        if not self._started:
            if len(buffer) == 0 or (len(buffer) == 1 and buffer.startswith(b"\r")):
                return None
            if buffer.startswith(b"\r\n"):  # RFC 9112, section 2.2: at least one empty line is ignored
                buffer.skip(2)
                raw = None
            self._started = True
        read = self._head_lines.read(buffer)
        if read is None:
            return None
        line, fields = read
        judge = _Judge(line)
        judge.add(fields)
        head = judge.head()
        if raw is not None:
            self._remember(raw, head)
        return head


def _split(raw: bytes) -> tuple[bytes, bytes | None, bytes]:
    """What of a head stands before its credential, the credential, and what stands behind.

    None where there is no credential in its usual spelling; then all stands before.
    """
    at = raw.find(_AUTHORIZATION)
    if at < 0:
        return raw, None, b""
    start = at + len(_AUTHORIZATION)
    end = raw.find(b"\r\n", start)
    return raw[:start], raw[start:end], raw[end:]


def _is_plain(credential: bytes) -> bool:
    """Whether a field's value holds nothing but visible characters and spaces between them, as nearly all do."""
    return (
        0 < len(credential) <= _LONGEST_CREDENTIAL
        and credential.translate(_VISIBLE_OR_SPACE) == credential
        and credential[0] != 0x20
        and credential[-1] != 0x20
    )


_CODINGS = "The only transfer coding understood is chunked."
_HEARD = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"expect"))


class _Judge:
    """Hears a head's lines in their order, as they come or all at once, and refuses with the first that is wrong.

    What is wrong therefore never hangs on how the bytes were cut. What is missing shows at the end, and so does what is
    well-formed and only not understood here.
    """

    __slots__ = (
        "_authorization",
        "_coding",
        "_connection",
        "_expectations",
        "_fields",
        "_host",
        "_length",
        "_method",
        "_old",
        "_target",
        "_upgrade",
    )

    def __init__(self, line: bytes) -> None:
        found = REQUEST_LINE.fullmatch(line)
        if found is None:
            raise Malformed(400, "The request line is malformed.")
        self._method, self._target, major, minor = found.groups()
        if major != b"1" or minor not in b"01":
            raise Malformed(505, "Only HTTP/1.1 and HTTP/1.0 are supported.")
        if self._method == b"CONNECT":
            raise Malformed(405, "CONNECT is not supported.")
        self._old = minor == b"0"
        self._authorization, self._fields = list[bytes](), list[Field]()
        self._connection, self._upgrade = set[bytes](), list[bytes]()
        self._length: bytes | None = None
        self._coding: bytes | None = None
        self._expectations = list[bytes]()
        self._host: bytes | None = None

    def add(self, fields: Iterable[Field]) -> None:
        for field in fields:
            lower, _, value = field
            if lower == b"authorization":
                self._authorization.append(value)
                continue
            self._fields.append(field)
            if lower in _HEARD:
                self._hear(lower, value)
            elif b"_" in lower:
                # Some servers read "_" as "-" (CGI variables), so that such a name could forge a field of ours.
                raise Malformed(400, "A header field's name contains an underscore.")

    def head(self) -> RequestHead:
        """The head, when all its lines have been heard."""
        old, connection = self._old, self._connection
        if self._coding not in (None, b"chunked"):
            raise Malformed(501, _CODINGS)  # RFC 9112, section 6.1
        if self._host is None and not old:
            raise Malformed(400, "Exactly one Host field is needed.")  # RFC 9112, section 3.2
        if self._expectations not in ([], [b"100-continue"]) and not old:
            raise Malformed(417, "The only expectation understood is 100-continue.")  # RFC 9110, section 10.1.1
        return RequestHead(
            self._method,
            self._target,
            0 if old else 1,
            tuple(self._fields),
            tuple(self._authorization),
            None if self._coding is not None else int(self._length or 0),
            self._host or b"",
            b"close" not in connection and (not old or b"keep-alive" in connection),
            frozenset(connection),
            _upgrade(self._upgrade, connection, old),
            bool(self._expectations) and not old,
        )

    def _hear(self, lower: bytes, value: bytes) -> None:
        match lower:
            case b"host":
                self._hear_host(value)
            case b"connection":
                self._connection.update(list_members(value))
            case b"content-length":
                self._hear_length(value)
            case b"transfer-encoding":
                self._hear_coding(value)
            case b"upgrade":
                self._upgrade.extend(list_members(value))
            case _:
                self._expectations.append(value.lower())

    def _hear_host(self, value: bytes) -> None:
        """RFC 9112, section 3.2: exactly one Host, and a valid one."""
        if self._host is not None:
            raise Malformed(400, "Exactly one Host field is needed.")
        parse_host(value)
        self._host = value

    def _hear_length(self, value: bytes) -> None:
        """RFC 9112, section 6.3."""
        if self._coding is not None:
            raise Malformed(400, "Content-Length and Transfer-Encoding exclude each other.")
        if self._length is not None:
            raise Malformed(400, "Content-Length is repeated.")
        if CONTENT_LENGTH.fullmatch(value) is None:
            raise Malformed(400, "Content-Length is malformed.")
        self._length = value

    def _hear_coding(self, value: bytes) -> None:
        """RFC 9112, section 6.1."""
        if self._length is not None:
            raise Malformed(400, "Content-Length and Transfer-Encoding exclude each other.")
        if self._old:
            raise Malformed(400, "HTTP/1.0 has no Transfer-Encoding.")
        if self._coding is not None:
            raise Malformed(400, "Transfer-Encoding is repeated.")
        if list_members(value)[-1:] != [b"chunked"] or value.lower().count(b"chunked") != 1:
            raise Malformed(400, _CODINGS)
        self._coding = value.lower()


def parse_host(value: bytes) -> tuple[bytes, int | None]:
    """The lower-case host and the port of a Host field. Raises Malformed (400)."""
    found = HOST.fullmatch(value)
    if found is None:
        raise Malformed(400, "The Host field is malformed.")
    host, port = found.groups()
    if port and int(port) > 65535:
        raise Malformed(400, "The Host field's port is out of range.")
    return host.lower(), int(port) if port else None


def _upgrade(offers: list[bytes], connection: set[bytes], old: bool) -> bytes | None:
    """RFC 9110, section 7.8: the one protocol offered; HTTP itself (h2c) and several at once are not relayed."""
    if old or b"upgrade" not in connection or len(offers) != 1:
        return None
    found = PROTOCOL.fullmatch(offers[0])
    return offers[0] if found is not None and found[1] not in (b"h2c", b"http", b"h2", b"tls") else None
