"""Messages that are taken whole, and bodies that pass elsewhere: the short ways say what the long ways would."""

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import End, Malformed, RequestHead, RequestReader, ResponseHead, ResponseReader
from gateway.http1.reader import Stage
from tests.counts import scaled

Events = list[tuple[object, ...]]

CREDENTIALS = [b"", b"Authorization: Bearer a\r\n", b"Authorization: Bearer bb\r\n", b'Authorization: MAC c="d"\r\n']
ODD_CREDENTIALS = [
    b"authorization: Bearer a\r\n",
    b"Authorization: Bearer a\r\nAuthorization: Bearer bb\r\n",
    b"Authorization: Bearer a\r\nauthorization: Bearer bb\r\n",
    b"Authorization:  Bearer a\r\n",
    b"Authorization: Bearer a \r\n",
    b"Authorization: \r\n",
    b"Authorization: Bearer \xe4\r\n",
    b"Authorization: a\r\nX-Authorization: b\r\n",
]
STARTS = [b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST /b HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.0\r\nHost: a\r\n"]
FRAMINGS = [(b"", b""), (b"Content-Length: 0\r\n", b""), (b"Content-Length: 5\r\n", b"hello")]
CHUNKED = (b"Transfer-Encoding: chunked\r\n", b"2\r\nhi\r\n0\r\n\r\n")


def told(head: RequestHead) -> tuple[object, ...]:
    return head.method, head.target, head.minor_version, head.fields, head.length


def requests_in(parts: list[bytes], *, whole: bool) -> Events:
    """What a connection's requests say, taken whole where that is allowed and can be done."""
    reader, events = RequestReader(), Events()

    def steps() -> None:
        body = b""
        while (event := reader.next_event()) is not None:
            if isinstance(event, RequestHead):
                events.append(told(event))
                body = b""
            elif isinstance(event, End):
                events.append(("end", event.trailers))
                if reader.next_request():
                    return
            elif body:
                body += event
                events[-1] = ("body", body)
            else:
                body = event
                events.append(("body", body))

    try:
        for part in parts:
            found = reader.whole(part) if whole else None
            if found is not None:
                head, body = found
                events.append(told(head))
                events += [("body", body)] if body else []
                events.append(("end", ()))
                reader.next_request()
            else:
                reader.receive(part)
                steps()
    except Malformed as fault:
        events.append(("fault", fault.status))
    return events


requests = st.builds(
    lambda start, before, framing, after: start + before + framing[0] + after + b"\r\n" + framing[1],
    st.sampled_from(STARTS),
    st.sampled_from([*CREDENTIALS * 3, *ODD_CREDENTIALS]),
    st.sampled_from([*FRAMINGS, CHUNKED]),
    st.sampled_from([b"", b"", b"X: y\r\n", b"Authorization: Bearer late\r\n"]),
)


@settings(max_examples=scaled(2000, 20))
@given(st.lists(requests, max_size=12), st.data())
def test_requests_taken_whole_say_what_they_say_in_steps(sent: list[bytes], data: st.DataObject) -> None:
    parts = list[bytes]()
    for request in sent:  # most of them come as they were sent
        cut = data.draw(st.integers(0, len(request)) | st.just(0))
        parts += [part for part in (request[:cut], request[cut:]) if part]
    assert requests_in(parts, whole=True) == requests_in(parts, whole=False)
    joined = [b"".join(parts[index : index + 2]) for index in range(0, len(parts), 2)]
    assert requests_in(joined, whole=True) == requests_in(joined, whole=False)


def responses_in(answers: list[tuple[bytes, bytes | None, list[bytes]]], *, whole: bool) -> Events:
    """What a connection's answers say; each comes with the method and the offer of its request, in parts."""
    reader, events = ResponseReader(), Events()
    try:
        for method, offer, parts in answers:
            if reader.stage not in (Stage.REST, Stage.COMPLETE):
                reader = ResponseReader()  # what is not complete is never followed by another
            reader.expect(method, offer)
            for part in parts:
                found = reader.whole(part) if whole else None
                if found is not None:
                    events.append((found[0].status, found[0].fields, found[0].length, found[0].chunked))
                    events += [("body", found[1])] if found[1] else []
                    events.append(("end", ()))
                    continue
                reader.receive(part)
                while (event := reader.next_event()) is not None:
                    if isinstance(event, ResponseHead):
                        events.append((event.status, event.fields, event.length, event.chunked))
                    elif isinstance(event, End):
                        events.append(("end", event.trailers))
                    elif events[-1][0] == "body":
                        events[-1] = ("body", bytes(events[-1][1]) + event)  # type: ignore[call-overload]  # bytes
                    else:
                        events.append(("body", event))
            events.append(("left", reader.buffered))
    except Malformed as fault:
        events.append(("fault", fault.status))
    return events


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
]


@settings(max_examples=scaled(2000, 20))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"GET", b"GET", b"HEAD", b"POST"]),
            st.sampled_from([None, None, b"x"]),
            st.sampled_from(ANSWERS),
            st.integers(0, 60) | st.just(0),
        ),
        max_size=12,
    )
)
def test_answers_taken_whole_say_what_they_say_in_steps(
    drawn: list[tuple[bytes, bytes | None, bytes, int]],
) -> None:
    answers = [
        (method, offer, [part for part in (answer[:cut], answer[cut:]) if part]) for method, offer, answer, cut in drawn
    ]
    assert responses_in(answers, whole=True) == responses_in(answers, whole=False)


# -- bodies that pass elsewhere ------------------------------------------------------------------------------

READERS: list[tuple[Callable[[], RequestReader | ResponseReader], bytes]] = [
    (RequestReader, b"POST / HTTP/1.1\r\nHost: a\r\n"),
    (ResponseReader, b"HTTP/1.1 200 OK\r\n"),
]


@pytest.mark.parametrize(("made", "start"), READERS)
def test_body_may_pass_elsewhere_once_what_came_of_it_is_read(
    made: Callable[[], RequestReader | ResponseReader], start: bytes
) -> None:
    reader = made()
    assert reader.unarrived == 0
    reader.receive(start + b"Content-Length: 10\r\n\r\nab")
    assert reader.unarrived == 0
    assert isinstance(reader.next_event(), RequestHead | ResponseHead)
    assert reader.unarrived == 0  # what is here would be overtaken
    assert reader.next_event() == b"ab"
    assert reader.next_event() is None
    assert reader.unarrived == 8
    reader.passed_elsewhere(5)
    assert reader.unarrived == 3
    with pytest.raises(ValueError, match="more has passed"):
        reader.passed_elsewhere(4)
    reader.receive(b"ij")
    assert reader.unarrived == 0
    assert reader.next_event() == b"ij"
    reader.passed_elsewhere(1)
    assert isinstance(reader.next_event(), End)
    assert reader.unarrived == 0


@pytest.mark.parametrize(("made", "start"), READERS)
def test_chunks_never_pass_elsewhere(made: Callable[[], RequestReader | ResponseReader], start: bytes) -> None:
    reader = made()
    reader.receive(start + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\nab")
    for _ in range(4):
        reader.next_event()
        assert reader.unarrived == 0
    with pytest.raises(ValueError, match="more has passed"):
        reader.passed_elsewhere(1)


def test_end_of_the_connection_in_a_body_that_passes_elsewhere_is_a_fault_until_all_has_passed() -> None:
    reader = ResponseReader()
    reader.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    reader.next_event()
    assert reader.next_event() is None
    reader.passed_elsewhere(9)
    with pytest.raises(Malformed):
        reader.closed()
    reader.passed_elsewhere(1)
    assert isinstance(reader.closed(), End)


# -- what a connection keeps ---------------------------------------------------------------------------------


def taken(reader: RequestReader, request: bytes) -> None:
    if reader.whole(request) is None:
        reader.receive(request)
        while reader.next_event() is not None:
            pass
    reader.next_request()


def test_connection_that_rests_keeps_nothing_of_what_it_read() -> None:
    def used(reader: RequestReader) -> None:
        for number in range(50):
            fields = b"X-%d: %b\r\nAuthorization: Bearer %b\r\n" % (number, b"x" * 3900, b"t" * 3900)
            taken(reader, b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
        taken(reader, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000))
        taken(reader, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")

    used(RequestReader())
    tracemalloc.start()
    try:
        readers = [RequestReader() for _ in range(20)]
        for reader in readers:
            used(reader)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 20 * 1500
