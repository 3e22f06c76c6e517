"""The response reader: what an upstream may say, and what is no answer (RFC 9112)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import End, Malformed, ResponseHead, ResponseReader
from tests.counts import scaled


def read(parts: list[bytes], method: bytes = b"GET", upgrade: bytes | None = None, closed: bool = True) -> list[object]:
    """All events of a connection's bytes and, with `closed`, of its end; a fault reads "fault"."""
    reader, events = ResponseReader(method, upgrade), list[object]()
    try:
        for part in parts:
            reader.receive(part)
            while (event := reader.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    events.append((event.status, event.fields, event.length, event.chunked))
                elif isinstance(event, End):
                    events.append(("end", event.trailers))
                elif events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
        if closed and not (events and isinstance(events[-1], tuple) and events[-1][0] == "end"):
            events.append(("end", reader.closed().trailers))
    except Malformed:
        events.append("fault")
    return events


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


FAULTS = [
    ("nothing", b""),
    ("garbage", b"hello\r\n\r\n"),
    ("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/0.9", b"<html>hello</html>"),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status above 599", b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("a CR in the reason", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
    ("a folded field", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    ("a space before the colon", b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in a value", b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n"),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("a list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\na"),
    ("a signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na"),
    ("both lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a coding that is not chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked on HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("an upgrade nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ("a body that is too short", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
    ("chunks without an end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ("a bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n"),
    ("a head without an end", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
    ("only interim answers", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (
        "endless interim answers",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    ("a huge head", b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 9 + b"\r\n"),
]


@pytest.mark.parametrize(("name", "data"), FAULTS, ids=[row[0] for row in FAULTS])
def test_response_reader_takes_no_lie_for_an_answer(name: str, data: bytes) -> None:
    whole = read([data])
    assert whole[-1] == "fault"
    assert read(bytewise(data)) == whole


# RFC 9112, section 6.3: method, bytes, the body and whether the end is known without the connection's
BODIES = [
    ("length", b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    ("no reason", b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    (
        "chunked",
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
        True,
    ),
    ("until close", b"GET", b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False),
    ("HTTP/1.0", b"GET", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False),
    ("HEAD", b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", True),
    ("HEAD of chunks", b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True),
    ("204", b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ("204 with a length", b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True),
    ("304", b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True),
    ("after 103", b"GET", b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
]


@pytest.mark.parametrize(("name", "method", "data", "body", "self_delimiting"), BODIES, ids=[row[0] for row in BODIES])
def test_response_reader_finds_the_end_of_the_body(
    name: str, method: bytes, data: bytes, body: bytes, self_delimiting: bool
) -> None:
    events = read([data], method, closed=not self_delimiting)
    assert events[-1] == ("end", ())
    assert b"".join(part for part in events if isinstance(part, bytes)) == body
    assert read(bytewise(data), method, closed=not self_delimiting) == events


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 OK\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1 600 OK\r\n",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 OK\r\nX\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_response_reader_judges_a_line_as_soon_as_it_is_complete(data: bytes) -> None:
    for parts in ([data], bytewise(data)):
        assert read(parts, closed=False) == ["fault"]


def test_response_reader_gives_what_follows_an_upgrade_to_the_new_protocol() -> None:
    reader = ResponseReader(b"GET", b"websocket")
    reader.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00")
    head = reader.next_event()
    assert isinstance(head, ResponseHead)
    assert head.status == 101
    assert reader.next_event() is None
    assert reader.unread() == b"\x81\x00"


@settings(max_examples=scaled(3000, 20))
@given(st.lists(st.one_of(st.sampled_from([row[2] for row in BODIES]), st.binary(max_size=12)), max_size=4), st.data())
def test_any_cut_of_a_response_gives_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read([part for part in parts if part]) == read([stream] if stream else [])
