"""Requests off the wire: bytes in, events out (RFC 9112). No socket, no clock.

    REST ──▶ HEAD ──▶ BODY ──▶ COMPLETE ──▶ REST, or HEAD where something is here already
      └──────── (whole) ──────────▲

A reader gives a RequestHead, the bytes of its body in any number of parts, and an End with the trailers; `whole` gives
head and body at once. When the answer is on its way the owner calls `next_request`. HEAD and BODY may end in FAULTY.

After a request that asks for an upgrade the reader stays COMPLETE: what follows belongs to the new protocol, if
the server agrees (`unread()`), or to the next request.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, final

from mypy_extensions import mypyc_attr

from gateway.http1.body import EMPTY_BODY, ChunkedBody, LengthBody
from gateway.http1.buffer import HeadLines
from gateway.http1.fields import Fields, Framing
from gateway.http1.grammar import (
    HOST,
    PROTOCOL,
    REQUEST_LINE,
    Malformed,
    is_length,
    list_members,
    nominated,
)
from gateway.http1.reader import MessageReader, Stage
from gateway.http1.scan import request_line

REQUESTS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.REST: frozenset((Stage.HEAD, Stage.COMPLETE)),
    Stage.HEAD: frozenset((Stage.BODY, Stage.FAULTY)),
    Stage.BODY: frozenset((Stage.COMPLETE, Stage.FAULTY)),
    Stage.COMPLETE: frozenset((Stage.REST, Stage.HEAD)),
    Stage.FAULTY: frozenset(),
}
_NONE: Final = frozenset[bytes]()


@mypyc_attr(acyclic=True)
@final
class RequestHead:
    """A request's head that passed every rule; it is never altered. `target` and the fields are the bytes as they came.

    `length` is the body's, or None when it comes in chunks; `host` is the Host field's value (b"" only for an
    HTTP/1.0 request without one); `connection` are the names that the Connection field nominates, in lower case;
    `upgrade` is the one protocol that the client offers to change to.
    """

    __slots__ = (
        "connection",
        "expects_continue",
        "fields",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor_version",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor_version: int,
        fields: Fields,
        length: int | None,
        host: bytes,
        keep_alive: bool,
        connection: frozenset[bytes],
        upgrade: bytes | None,
        expects_continue: bool,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.minor_version: Final = minor_version
        self.fields: Final = fields
        self.length: Final = length
        self.host: Final = host
        self.keep_alive: Final = keep_alive
        self.connection: Final = connection
        self.upgrade: Final = upgrade
        self.expects_continue: Final = expects_continue


class RequestReader(MessageReader[RequestHead]):
    """Reads the requests of one connection, one after another."""

    __slots__ = ("_head_lines", "_started")

    def __init__(self) -> None:
        super().__init__(REQUESTS)
        self._head_lines = HeadLines(414, hearing=_Hearing)
        self._started = False  # the empty line that may precede a request line was skipped, or cannot come

    @property
    def first_chunk_seen(self) -> bool:
        """Whether nothing can be wrong with the beginning of the body any more."""
        return not isinstance(self._body, ChunkedBody) or self._body.whole_chunks > 0

    @property
    def announced(self) -> int:
        """How many bytes the chunk under way has yet to bring, by its size; 0 where the body comes in no chunks."""
        return self._body.left if isinstance(self._body, ChunkedBody) else 0

    def whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The request that `data` is with its whole body, where nothing else waits.

        The common case, without a buffer and a state for each part; where it gives None, `receive` and `next_event` do
        the same in steps.
        """
        if self.stage is not Stage.REST:
            return None
        read = _plain_head(data)
        if read is None:
            return None
        head, size = read
        if head.length != len(data) - size:
            return None
        self.pass_by()
        return head, data[size:]

    def pass_by(self) -> bool:
        """Go on as behind a request that `whole` gave, which is known already; False where something else waits."""
        if self.stage is not Stage.REST:
            return False
        self._go(Stage.COMPLETE)
        return True

    def next_request(self) -> bool:
        """Go on behind a complete request to the next of the connection; whether nothing of it is here yet."""
        rests = self._buffer.rest()
        self._go(Stage.REST if rests else Stage.HEAD)
        self._started, self._body = False, EMPTY_BODY
        return rests

    def _read_head(self) -> RequestHead | None:
        head = self._read_plain_head() or self._read_line_by_line()
        if head is None:
            return None
        length = head.length
        self._body = EMPTY_BODY if length == 0 else ChunkedBody() if length is None else LengthBody(length)
        self._go(Stage.BODY)
        return head

    def _read_plain_head(self) -> RequestHead | None:
        """The head that is here, if nothing in it is unusual and none of it has been looked at."""
        raw = self._buffer.peek_head() if self._head_lines.fresh else None
        read = None if raw is None else _plain_head(raw)
        if read is None:
            return None
        self._buffer.skip(read[1])
        return read[0]

    def _read_line_by_line(self) -> RequestHead | None:
        buffer = self._buffer
        if not self._started:
            if len(buffer) == 0 or (len(buffer) == 1 and buffer.startswith(b"\r")):
                return None
            if buffer.startswith(b"\r\n"):  # RFC 9112, section 2.2: at least one empty line is ignored
                buffer.skip(2)
            self._started = True
        read = self._head_lines.read(buffer)
        if read is None:
            return None
        line, fields = read
        hearing = _Hearing(line)
        for name, _, value in fields:
            hearing.hear(name, value)
        return _head(hearing.method, hearing.target, hearing.minor, fields, hearing.framing)


def _plain_head(data: bytes) -> tuple[RequestHead, int] | None:
    """The head that `data` begins with, and its size; None where it is not whole, not plain or not right.

    Its grammar is proven in one step. What is not plain is none the worse for it, and what is wrong is told by the
    reading line by line: this one skips work, and decides nothing.
    """
    line = request_line(data)
    if line is None:
        return None
    method_ends, target_ends = line
    fields = Fields.at(data, target_ends + len(b" HTTP/1.1\r\n"))
    if fields is None or not fields.names.plain:
        return None
    minor = b"1" if data[target_ends + 8] == _ONE else b"0"
    framing = fields.framing()
    method = data[:method_ends]
    try:
        _check_method(method)
        _check(framing, minor)
        return _head(method, data[method_ends + 1 : target_ends], minor, fields, framing), fields.end + 2
    except Malformed:
        return None


_ONE: Final = 0x31
_MOST_EMPTY: Final = 64  # members of a list without anything in them, of which some are to be borne (RFC 9110, 5.6.1.2)
_CODINGS: Final = "The only transfer coding understood is chunked."


class _Hearing:
    """Hears a head's lines in their order, as they come or all at once, and refuses with the first that is wrong.

    What is wrong therefore never hangs on how the bytes were cut. What is missing shows at the end (`_head`), and so
    does what is well-formed and only not understood here.
    """

    __slots__ = ("framing", "method", "minor", "target")

    def __init__(self, line: bytes) -> None:
        found = REQUEST_LINE.fullmatch(line)
        if found is None:
            raise Malformed(400, "The request line is malformed.")
        self.method, self.target, major, self.minor = found.groups()
        if major != b"1" or self.minor not in b"01":
            raise Malformed(505, "Only HTTP/1.1 and HTTP/1.0 are supported.")
        _check_method(self.method)
        self.framing = Framing()

    def hear(self, name: bytes, value: bytes) -> None:
        if self.framing.hear(name, value):
            _check(self.framing, self.minor)
        elif b"_" in name:
            # Some servers read "_" as "-" (CGI variables), so that such a name could forge a field of ours.
            raise Malformed(400, "A header field's name contains an underscore.")


def _check_method(method: bytes) -> None:
    if method == b"CONNECT":
        raise Malformed(405, "CONNECT is not supported.")


def _check(framing: Framing, minor: bytes) -> None:
    """Raises Malformed where what has come so far is wrong, whatever follows."""
    if framing.hosts:
        if len(framing.hosts) > 1:
            raise Malformed(400, "Exactly one Host field is needed.")  # RFC 9112, section 3.2
        parse_host(framing.hosts[0])
    if framing.lengths:
        _check_lengths(framing.lengths)
    if framing.codings:
        _check_codings(framing.codings, old=minor == b"0", length_too=bool(framing.lengths))


def _check_lengths(values: tuple[bytes, ...]) -> None:
    """RFC 9112, section 6.3."""
    if len(values) > 1:
        raise Malformed(400, "Content-Length is repeated.")
    if not is_length(values[0]):
        raise Malformed(400, "Content-Length is malformed.")


def _check_codings(values: tuple[bytes, ...], *, old: bool, length_too: bool) -> None:
    """RFC 9112, section 6.1."""
    if length_too:
        raise Malformed(400, "Content-Length and Transfer-Encoding exclude each other.")
    if old:
        raise Malformed(400, "HTTP/1.0 has no Transfer-Encoding.")
    if len(values) > 1:
        raise Malformed(400, "Transfer-Encoding is repeated.")
    if list_members(values[0])[-1:] != [b"chunked"] or values[0].lower().count(b"chunked") != 1:
        raise Malformed(400, _CODINGS)


def _head(method: bytes, target: bytes, minor: bytes, fields: Fields, framing: Framing) -> RequestHead:
    """The head, when all its lines have been heard. Raises Malformed for what is missing, or not understood."""
    old = minor == b"0"
    codings, expected = framing.codings, framing.expectations
    if codings and codings[0].lower() != b"chunked":
        raise Malformed(501, _CODINGS)  # RFC 9112, section 6.1
    if not framing.hosts and not old:
        raise Malformed(400, "Exactly one Host field is needed.")  # RFC 9112, section 3.2
    if expected and not old and [value.lower() for value in expected] != [b"100-continue"]:
        raise Malformed(417, "The only expectation understood is 100-continue.")  # RFC 9110, section 10.1.1
    connection = nominated(framing.connections) if framing.connections else _NONE
    return RequestHead(
        method,
        target,
        0 if old else 1,
        fields,
        None if codings else int(framing.lengths[0]) if framing.lengths else 0,
        framing.hosts[0] if framing.hosts else b"",
        b"close" not in connection and (not old or b"keep-alive" in connection),
        connection,
        _upgrade(framing.upgrades, connection, old) if framing.upgrades else None,
        bool(expected) and not old,
    )


@lru_cache(maxsize=256)
def parse_host(value: bytes) -> tuple[bytes, int | None]:
    """The lower-case host and the port of a Host field. Raises Malformed (400)."""
    found = HOST.fullmatch(value)
    if found is None:
        raise Malformed(400, "The Host field is malformed.")
    host, port = found.groups()
    if port and int(port) > 65535:
        raise Malformed(400, "The Host field's port is out of range.")
    return host.lower(), int(port) if port else None


def _upgrade(values: tuple[bytes, ...], connection: frozenset[bytes], old: bool) -> bytes | None:
    """RFC 9110, section 7.8: the one protocol offered; HTTP itself (h2c) and several at once are not relayed."""
    offered = b",".join(values)
    if old or b"upgrade" not in connection or offered.count(b",") > _MOST_EMPTY:
        return None
    offers = list_members(offered)
    if len(offers) != 1:
        return None
    found = PROTOCOL.fullmatch(offers[0])
    return offers[0] if found is not None and found[1] not in (b"h2c", b"http", b"h2", b"tls") else None
