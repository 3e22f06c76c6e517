"""The request reader against RFC 9112's grammar: what is read, what is refused, and that cuts do not matter."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.values import members
from gateway.http1 import End, Malformed, RequestHead, RequestReader
from tests.counts import scaled

Events = list[object]


def read(parts: list[bytes]) -> Events:
    """All events of a connection's bytes: heads as tuples, bodies joined, a fault as its status."""
    reader, events = RequestReader(), Events()
    for part in parts:
        if (whole := reader.whole(part)) is not None:  # the short way must say the same as the long one
            head, body = whole
            events.append(("head", head.method, head.target, head.fields, head.length))
            events += [body, ("end", ())] if body else [("end", ())]
            reader.next_request()
            continue
        reader.receive(part)
        try:
            while (event := reader.next_event()) is not None:
                if isinstance(event, RequestHead):
                    events.append(("head", event.method, event.target, event.fields, event.length))
                elif isinstance(event, End):
                    events.append(("end", event.trailers))
                    reader.next_request()
                elif events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
        except Malformed as fault:
            events.append(fault.status)
            return events
    return events


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


HOST = b"Host: a\r\n"

# name, bytes, status. RFC 9112 unless said otherwise.
REFUSED = [
    # 2.2 message parsing
    ("two empty lines before the request", b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a bare LF before the request", b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a bare LF behind the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    ("a bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("only bare LFs", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("a bare CR in a field", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    ("a bare CR in the request line", b"GET / \rHTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two CRs", b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n", 400),
    ("white space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    # 3 request line
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("HTTP/0.9 with a version", b"GET / HTTP/0.9\r\n\r\n", 505),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    ("a version in lower case", b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    ("a long version", b"GET / HTTP/1.11\r\n" + HOST + b"\r\n", 400),
    ("a version without a minor part", b"GET / HTTP/1\r\n" + HOST + b"\r\n", 400),
    ("two spaces before the target", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two spaces behind the target", b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a tab for a space", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a space behind the version", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    ("a space before the method", b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a space in the target", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no target", b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no method", b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method that is no token", b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a very long method", b"G" * 33 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a NUL in the target", b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("a request line over the limit", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("a request line that never ends", b"GET /" + b"a" * 9000, 414),
    # 3.2 Host
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    ("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("a Host of spaces", b"GET / HTTP/1.1\r\nHost:   \r\n\r\n", 400),
    ("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("a Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("a Host with a query", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
    ("a Host list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("a Host with a named port", b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
    ("a Host with a negative port", b"GET / HTTP/1.1\r\nHost: a:-80\r\n\r\n", 400),
    ("a Host with two ports", b"GET / HTTP/1.1\r\nHost: a:80:90\r\n\r\n", 400),
    ("a Host with a port out of range", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    ("a Host with only a port", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
    ("a Host with an open bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    ("a bad Host on HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    # 5 fields
    ("a space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("a tab before the colon", b"GET / HTTP/1.1\r\n" + HOST + b"X\t: a\r\n\r\n", 400),
    ("a folded line", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    ("a line folded with a tab", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n\r\n", 400),
    ("no colon", b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400),
    ("no name", b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    ("a name that is no token", b"GET / HTTP/1.1\r\n" + HOST + b"X(a): b\r\n\r\n", 400),
    ("a name in UTF-8", b"GET / HTTP/1.1\r\n" + HOST + "Ä: b\r\n\r\n".encode(), 400),
    ("a NUL in a value", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    ("an ESC in a value", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x1bb\r\n\r\n", 400),
    ("a DEL in a value", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n", 400),
    ("an underscore in a name", b"GET / HTTP/1.1\r\n" + HOST + b"X_Forwarded_For: a\r\n\r\n", 400),
    ("a field over the limit", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
    ("a field that never ends", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000, 431),
    ("101 fields", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100 + b"\r\n", 431),
    ("a head over the limit", b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 7000 + b"\r\n") * 10 + b"\r\n", 431),
    # 6 framing
    ("both lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (
        "both, the other way",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        400,
    ),
    ("two lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    ("two equal lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    ("a list of lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na", 400),
    ("a signed length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", 400),
    ("a negative length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\na", 400),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na", 400),
    ("a length with a space", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1 1\r\n\r\na", 400),
    ("a length with an underscore", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n", 400),
    ("an empty length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n", 400),
    ("a length of 30 digits", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    ("a length in other digits", b"POST / HTTP/1.1\r\n" + HOST + "Content-Length: \u0661\r\n\r\n".encode(), 400),
    ("gzip, chunked", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ("chunked, gzip", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    ("chunked twice", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    (
        "chunked in two fields",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    ("identity", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    ("an empty coding", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n\r\n", 400),
    ("a quoted coding", b"POST / HTTP/1.1\r\n" + HOST + b'Transfer-Encoding: "chunked"\r\n\r\n', 400),
    ("a coding with a vertical tab", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    ("a coding with a parameter", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked;a=b\r\n\r\n", 400),
    ("chunked on HTTP/1.0", b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # RFC 9110, section 10.1.1
    ("an unknown expectation", b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
]

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
# RFC 9112, section 7.1; each follows a good head
BAD_CHUNKS = [
    ("no size", b"\r\nhello\r\n0\r\n\r\n"),
    ("a size that is no number", b"x\r\nhello\r\n0\r\n\r\n"),
    ("a size with a prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a signed size", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a space before it", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a space behind it", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("a size of 16 digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a size that would overflow", b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    ("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    ("a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
    ("spilled bytes behind the data", b"5\r\nhelloXX0\r\n\r\n"),
    ("a chunk that is too short", b"6\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("an extension that is no token", b"5;a=\x01\r\nhello\r\n0\r\n\r\n"),
    ("an extension without a name", b"5;\r\nhello\r\n0\r\n\r\n"),
    ("a NUL in an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n"),
    ("an open quote in an extension", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    ("a very long extension", b"5;a=" + b"b" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    ("an endless size", b"0" * 300),
    ("a bare LF behind the last chunk", b"0\n\r\n"),
    ("a bare LF as the end", b"0\r\n\n"),
    ("a malformed trailer", b"0\r\nX : a\r\n\r\n"),
    ("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n"),
    ("a trailer without a colon", b"0\r\nX\r\n\r\n"),
    ("too many trailers", b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n"),
    ("trailers over the limit", b"0\r\n" + (b"X: " + b"a" * 5000 + b"\r\n") * 2 + b"\r\n"),
]


@pytest.mark.parametrize(("name", "data", "status"), REFUSED, ids=[row[0] for row in REFUSED])
def test_request_reader_refuses_a_bad_head_alike_whole_and_byte_by_byte(name: str, data: bytes, status: int) -> None:
    assert read([data])[-1] == status
    assert read(bytewise(data))[-1] == status


@pytest.mark.parametrize(("name", "data"), BAD_CHUNKS, ids=[row[0] for row in BAD_CHUNKS])
def test_request_reader_refuses_a_bad_chunk_alike_whole_and_byte_by_byte(name: str, data: bytes) -> None:
    whole = read([CHUNKED + data])
    assert whole[-1] in (400, 431)
    assert read(bytewise(CHUNKED + data)) == whole


def test_request_reader_skips_one_empty_line_before_a_request() -> None:
    # RFC 9112, section 2.2
    head, _ = read([b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert isinstance(head, tuple)
    assert head[:3] == ("head", b"GET", b"/")


def test_request_reader_ignores_chunk_extensions_and_gives_trailers() -> None:
    # RFC 9112, section 7.1.1 and 7.1.2
    events = read([CHUNKED + b'5;a="b;c";d = e\r\nhello\r\n3\r\n go\r\n0;x\r\nX-Sum: 1\r\n\r\n'])
    assert events[1:] == [b"hello go", ("end", ((b"x-sum", b"X-Sum", b"1"),))]


def test_request_reader_keeps_its_fault() -> None:
    reader = RequestReader()
    reader.receive(b"GET / HTTP/9.9\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(3):
        with pytest.raises(Malformed):
            reader.next_event()


def test_request_reader_takes_a_request_whole_only_where_nothing_else_waits() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    reader = RequestReader()
    first = reader.whole(data)
    assert first is not None
    assert reader.whole(data) is None  # the owner has not gone on
    reader.next_request()
    again = reader.whole(data)
    assert again is not None
    assert (members(again[0]), again[1]) == (members(first[0]), b"")
    reader.next_request()
    reader.receive(b"G")
    assert reader.next_event() is None
    assert reader.whole(data) is None  # a beginning waits
    fresh = RequestReader()
    fresh.receive(data + b"\r\n")
    assert isinstance(fresh.next_event(), RequestHead)
    assert isinstance(fresh.next_event(), End)
    fresh.next_request()
    assert fresh.whole(data) is None  # an empty line waits


def test_request_reader_takes_a_request_with_its_whole_body_at_once_and_no_other() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    reader = RequestReader()
    reader.receive(head + b"abc")
    first = reader.next_event()
    assert reader.next_event() == b"abc"
    assert isinstance(reader.next_event(), End)
    reader.next_request()
    for data in (head, head + b"ab", head + b"abcd", head + b"abc" + head, b"\r\n" + head + b"abc", head[4:] + b"abc"):
        assert reader.whole(data) is None
    for body in (b"xyz", b"\r\n\r"):
        whole = reader.whole(head + body)
        assert whole is not None
        assert (members(whole[0]), whole[1]) == (members(first), body)
        assert reader.whole(head + body) is None  # the owner has not gone on
        reader.next_request()


def test_request_reader_waits_for_the_owner_before_the_next_request() -> None:
    reader = RequestReader()
    reader.receive(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(reader.next_event(), RequestHead)
    assert isinstance(reader.next_event(), End)
    assert reader.next_event() is None
    reader.next_request()
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    assert head.target == b"/2"


@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n", b"websocket"),
        (b"Upgrade: websocket\r\n", None),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", None),
        (b"Connection: Upgrade\r\nUpgrade: websocket/13 h2c\r\n", None),
        (b"Connection: Upgrade\r\nUpgrade: websocket/\r\n", None),
        (b"Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n", None),
        (b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", None),
        (b"Connection: Upgrade\r\n", None),
    ],
)
def test_request_reader_sees_an_upgrade_only_where_one_protocol_is_offered(offer: bytes, taken: bytes | None) -> None:
    # RFC 9110, section 7.8
    reader = RequestReader()
    reader.receive(b"GET / HTTP/1.1\r\n" + HOST + offer + b"\r\n")
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    assert head.upgrade == taken


@pytest.mark.parametrize(
    ("line", "field", "keeps"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.1", b"Connection: x, CLOSE\r\n", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_request_reader_tells_whether_the_connection_persists(line: bytes, field: bytes, keeps: bool) -> None:
    # RFC 9112, section 9.3
    reader = RequestReader()
    reader.receive(b"GET / " + line + b"\r\n" + HOST + field + b"\r\n")
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    assert head.keep_alive is keeps


PIECES = [
    b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nT: 1\r\n\r\n",
    CHUNKED + b"2\r\nabX",
    b"\r\n",
    b"\n",
    b"GET / HTTP/1.1\r\n",
    b"X: " + b"y" * 8190 + b"\r\n",
    b"Host: a\r\n",
    b"\0",
    b": ",
]


@settings(max_examples=scaled(3000, 20))
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)), max_size=6), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = read([stream])
    assert read([part for part in parts if part]) == whole
    if len(stream) < 400:
        assert read(bytewise(stream)) == whole


FIELD_NAME = st.from_regex(rb"\A[A-Za-z][A-Za-z0-9-]{0,12}\Z").filter(
    lambda name: (
        name.lower() not in (b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade")
    )
)
FIELD_VALUE = st.from_regex(rb"\A[!-~]([ -~]{0,20}[!-~])?\Z")


@settings(max_examples=scaled(3000, 20))
@given(
    st.sampled_from([b"GET", b"POST", b"DELETE", b"PURGE"]),
    st.from_regex(rb"\A/[!-~]{0,30}\Z"),
    st.lists(st.tuples(FIELD_NAME, FIELD_VALUE), max_size=8),
    st.binary(max_size=40),
    st.booleans(),
)
def test_what_h11_reads_is_read_the_same(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], body: bytes, chunked: bool
) -> None:
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
    lines = [name + b": " + value for name, value in [(b"Host", b"a"), *fields, framing]]
    payload = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else b"0\r\n\r\n" if chunked else body
    data = b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, target, b"\r\n".join(lines), payload)
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    request = peer.next_event()
    assert isinstance(request, h11.Request)
    head, *rest = read([data])
    assert isinstance(head, tuple)
    assert head[1:3] == (request.method, request.target)
    assert [(lower, value) for lower, _, value in head[3]] == list(request.headers)
    assert b"".join(part for part in rest if isinstance(part, bytes)) == body


@settings(max_examples=scaled(5000, 20))
@given(st.binary(max_size=300))
def test_only_the_reader_s_own_error_escapes(data: bytes) -> None:
    for stream in (data, b"POST / HTTP/1.1\r\nHost: a\r\n" + data, CHUNKED + data):
        assert isinstance(read([stream]), list)
