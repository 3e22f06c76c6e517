"""The quick proof of a head and the careful reading agree: at every limit, byte, cut and stray line end; in 3 ms."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.agreement import METHODS, OFFERS, Outcome, requests_agree, responses_agree
from fuzz.mutation import TOKENS
from fuzz.slowness import Climb, quickest
from gateway.http1 import Malformed, RequestReader, ResponseReader
from tests.counts import scaled

BOUND = 0.003  # seconds of the processor for any head
HEAD_LIMIT, LINE_LIMIT, FIELD_LIMIT = 65_536, 8192, 100  # as docs/reference.md promises them

HOST = b"Host: a\r\n"
REQUESTS = [
    b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /a/b;c?d=%20&e HTTP/1.1\r\nHost: a.example:8443\r\nAccept: */*\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Max-Forwards: 1\r\n\r\n",
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: [::1]:80\r\nX-A: \xe4\t\xff\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nExpect: 100-Continue\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nhOST:a\r\nCONNECTION:upgrade , X-A\r\nUpgrade:\tWebSocket \r\nX-a: 1\r\nx-A:2\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Bearer gwa_a\r\nCookie: a=1; b=2\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X!#$%&'*+.^`|~: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"A:\r\nA: \r\nA:\t\r\n\r\n",
    b"PROPFIND-A!b / HTTP/1.1\r\n" + HOST + b"Forwarded: for=a\r\n\r\nGET",
]
REFUSED_REQUESTS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X_A: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Expect: more\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 404 Not \xe4\tFound \r\nX_A: b\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\ncontent-length:7\r\nETag:"a"\r\n\r\n',
    b"HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nDate:\r\n\r\n0\r\n\r\n",
]  # fmt: skip
REFUSED_ANSWERS = [
    b"HTTP/1.1 600 OK\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: other\r\n\r\n",
]


def ways(data: bytes, place: int) -> list[Outcome]:
    """What these bytes are, cut at this place: as a request, or as the answer to each that may have been sent."""
    pieces = [data[:place], data[place:]]
    if data.startswith(b"HTTP"):
        return [responses_agree(data, pieces, method, offer) for method in METHODS for offer in OFFERS]
    return [requests_agree(data, pieces)]


def refused(outcome: Outcome) -> bool:
    """Whether it ends with a status and why, and not with what is behind the head."""
    return isinstance(outcome[-1], tuple)


def taken(outcome: Outcome) -> bool:
    """Whether a head was read, and all was well."""
    return len(outcome) > 1 and not refused(outcome)


# -- any bytes -----------------------------------------------------------------------------------------------

LINES = [data[: data.find(b"\r\n", 2) + 2] for data in (*REQUESTS, *ANSWERS)]
FIELDS = sorted(
    {line + b"\r\n" for data in (*REQUESTS, *REFUSED_REQUESTS, *ANSWERS) for line in data.split(b"\r\n")[1:]}
)
anything = st.builds(
    lambda start, parts, end: start + b"".join(parts) + end,
    st.sampled_from([*LINES, b""]),
    st.lists(
        st.one_of(st.sampled_from(FIELDS), st.sampled_from(FIELDS), st.sampled_from(TOKENS), st.binary(max_size=4))
    ),
    st.sampled_from([b"\r\n", b"\r\nhello", b""]),
)


@settings(max_examples=scaled(3000, 20))
@given(anything, st.data())
def test_both_ways_of_reading_agree_on_any_bytes_however_they_are_cut(data: bytes, draw: st.DataObject) -> None:
    places = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    requests_agree(data, pieces)
    responses_agree(data, pieces, draw.draw(st.sampled_from(METHODS)), draw.draw(st.sampled_from(OFFERS)))


@pytest.mark.parametrize("data", [*REQUESTS, *ANSWERS])
def test_good_head_cut_into_two_at_any_place_is_the_same(data: bytes) -> None:
    (whole, *_) = (outcome for outcome in ways(data, 0) if taken(outcome))
    assert whole in ways(data, len(data))
    for place in range(len(data) + 1):
        ways(data, place)  # each is compared with the whole


@pytest.mark.parametrize("data", [*REFUSED_REQUESTS, *REFUSED_ANSWERS])
def test_bad_head_cut_into_two_at_any_place_is_refused_alike(data: bytes) -> None:
    for place in range(len(data) + 1):
        assert all(refused(outcome) for outcome in ways(data, place))


@pytest.mark.parametrize("data", [*REQUESTS, *ANSWERS])
@pytest.mark.parametrize("stray", [b"\r", b"\n", b"\0", b"\r\r\n", b"\n\n", b"\r\0\n"])
def test_cr_lf_or_nul_anywhere_in_a_head_is_refused(data: bytes, stray: bytes) -> None:
    head = data[: data.find(b"\r\n\r\n") + 4]
    for place in range(len(head)):
        changed = head[:place] + stray + head[place:]
        if changed.startswith(head):
            continue  # it stands behind the head
        assert all(refused(outcome) for outcome in ways(changed, place + 1)), changed


TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
NAME = TOKEN - frozenset(b"_")
VALUE = frozenset((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
NOTHING = frozenset[int]()
# Where a byte is put (the @), and which may stand there; a line feed behind CR ends the head, and one more is no part.
PLACES = [
    ("the method", b"GE@T / HTTP/1.1\r\nHost: a\r\n\r\n", TOKEN),
    ("before the method", b"@GET / HTTP/1.1\r\nHost: a\r\n\r\n", TOKEN),
    ("the target", b"GET /a@b HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("between method and target", b"GET @/ HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("between target and version", b"GET /@ HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("before the version", b"GET / @HTTP/1.1\r\nHost: a\r\n\r\n", NOTHING),
    ("the version", b"GET / HTTP/1@.1\r\nHost: a\r\n\r\n", NOTHING),
    ("the minor version", b"GET / HTTP/1.@\r\nHost: a\r\n\r\n", frozenset(b"01")),
    ("behind the version", b"GET / HTTP/1.1@\r\nHost: a\r\n\r\n", NOTHING),
    ("before a name", b"GET / HTTP/1.1\r\nHost: a\r\n@X: b\r\n\r\n", NAME),
    ("a name", b"GET / HTTP/1.1\r\nHost: a\r\nX@Y: b\r\n\r\n", NAME | frozenset(b":")),
    ("behind a name", b"GET / HTTP/1.1\r\nHost: a\r\nX@: b\r\n\r\n", NAME | frozenset(b":")),
    ("before a value", b"GET / HTTP/1.1\r\nHost: a\r\nX:@b\r\n\r\n", VALUE),
    ("a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@c\r\n\r\n", VALUE),
    ("before CR", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@\r\n\r\n", VALUE),
    ("between CR and LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r@\n\r\n", NOTHING),
    ("between CR and LF of the first line", b"GET / HTTP/1.1\r@\nHost: a\r\n\r\n", NOTHING),
    ("in the place of CR", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@\n\r\n", frozenset(b"\r")),
    ("in the place of LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r@\r\n", frozenset(b"\n")),
    ("before the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n@\r\n", NOTHING),
    ("in the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\r@\n", frozenset(b"\n")),
    ("the Host", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", TOKEN - frozenset(b"#%^`|") | frozenset(b"(),;=")),
    ("the length", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0@\r\n\r\n", frozenset(b"\t 0123456789")),
    ("the coding", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked@\r\n\r\n", frozenset(b"\t ")),
    ("the expectation", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue@\r\n\r\n", frozenset(b"\t ")),
    ("before a version", b"HTTP/1.1@ 200 OK\r\n\r\n", NOTHING),
    ("the status", b"HTTP/1.1 20@ OK\r\n\r\n", frozenset(b"0123456789")),
    ("behind the status", b"HTTP/1.1 200@\r\n\r\n", frozenset(b" ")),
    ("the reason", b"HTTP/1.1 200 O@K\r\n\r\n", VALUE),
    ("between CR and LF of the status line", b"HTTP/1.1 200 OK\r@\nX: b\r\n\r\n", NOTHING),
    ("a name of an answer", b"HTTP/1.1 200 OK\r\nX@Y: b\r\n\r\n", TOKEN | frozenset(b":")),
    ("a value of an answer", b"HTTP/1.1 200 OK\r\nX: b@c\r\n\r\n", VALUE),
    ("before CR of an answer", b"HTTP/1.1 200 OK\r\nX: b@\r\n\r\n", VALUE),
    ("between CR and LF of an answer", b"HTTP/1.1 200 OK\r\nX: b\r@\n\r\n", NOTHING),
    ("in the empty line of an answer", b"HTTP/1.1 200 OK\r\nX: b\r\n\r@\n", frozenset(b"\n")),
    ("the length of an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0@\r\n\r\n", frozenset(b"\t 0123456789")),
    ("the coding of an answer", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked@\r\n\r\n", frozenset(b"\t ")),
]


@pytest.mark.parametrize(("template", "allowed"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_of_all_bytes_only_those_of_the_grammar_may_stand_in_a_place(template: bytes, allowed: frozenset[int]) -> None:
    place = template.index(b"@")
    for byte in range(256):
        data = template[:place] + bytes((byte,)) + template[place + 1 :]
        for outcome in (*ways(data, place), *ways(data, place + 1)):
            assert taken(outcome) is (byte in allowed), (data, outcome)


# -- limits --------------------------------------------------------------------------------------------------

STARTS = [b"GET / HTTP/1.1\r\n" + HOST, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"]


def line(size: int, name: bytes = b"X") -> bytes:
    """A field's line of so many bytes."""
    return name + b": " + b"v" * (size - len(name) - 4) + b"\r\n"


def head(start: bytes, size: int, count: int = 8) -> bytes:
    """A head of so many bytes, with so many lines beside the first two."""
    room = size - len(start) - 2
    sizes = [room // count + (number < room % count) for number in range(count)]
    return start + b"".join(line(each) for each in sizes) + b"\r\n"


def outcomes(data: bytes) -> list[Outcome]:
    """Of a long head: cut before its end, within a line, and where its last line ends."""
    return [
        outcome
        for place in (4, len(data) // 2, len(data) - 3, len(data) - 1, len(data))
        for outcome in ways(data, place)
    ]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("count", [9, 98])
def test_head_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes, count: int) -> None:
    for size in (LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, HEAD_LIMIT - 1, HEAD_LIMIT):
        data = head(start, size, count)
        assert len(data) == size
        assert all(taken(outcome) for outcome in outcomes(data))
    beyond = head(start, HEAD_LIMIT + 1, count)
    assert {outcome[-1] for outcome in outcomes(beyond)} == {(431, "The header is longer than 65536 bytes.")}


@pytest.mark.parametrize("start", STARTS)
def test_line_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes) -> None:
    for before in (b"", b"A: b\r\n" * 5):
        longest = start + before + line(LINE_LIMIT) + b"\r\n"
        assert all(taken(outcome) for outcome in outcomes(longest))
        beyond = start + before + line(LINE_LIMIT + 1) + b"\r\n"
        assert {outcome[-1] for outcome in outcomes(beyond)} == {(431, "A header field is longer than 8192 bytes.")}


@pytest.mark.parametrize(
    ("start", "end", "status"), [(b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n", 414), (b"HTTP/1.1 200 ", b"\r\n\r\n", 400)]
)
def test_first_line_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes, end: bytes, status: int) -> None:
    room = LINE_LIMIT - len(start) - end.index(b"\r\n") - 2
    assert all(taken(outcome) for outcome in outcomes(start + b"a" * room + end))
    beyond = outcomes(start + b"a" * (room + 1) + end)
    assert {outcome[-1] for outcome in beyond} == {(status, "The first line is longer than 8192 bytes.")}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("field", [b"a:\r\n", b"X-Some: value\r\n", line(600)])
def test_hundred_fields_are_taken_and_one_more_is_not(start: bytes, field: bytes) -> None:
    most = start + field * (FIELD_LIMIT - 1) + b"\r\n"  # the start has one
    assert all(taken(outcome) for outcome in outcomes(most))
    for count in (FIELD_LIMIT, FIELD_LIMIT + 1, 60_000 // len(field)):
        beyond = outcomes(start + field * count + b"\r\n")
        assert {outcome[-1] for outcome in beyond} == {(431, "There are more than 100 header fields.")}


# -- time ----------------------------------------------------------------------------------------------------


def first_head(data: bytes) -> None:
    """Read one head, whichever it is of, at once and in two parts."""
    for reader in (ResponseReader(),) if data.startswith(b"HTTP") else (RequestReader(),):
        try:
            if reader.whole(data) is None:
                reader.receive(data)
                reader.next_event()
        except Malformed:
            pass


LONG = [
    (name, start + what)
    for start in STARTS
    for name, what in [
        ("64 KB in few fields", head(b"", HEAD_LIMIT - 40)),
        ("64 KB in many fields", head(b"", HEAD_LIMIT - 40, 99)),
        ("64 KB and no end", head(b"", HEAD_LIMIT - 40, 99)[:-2]),
        ("one name 15,000 times", b"a:\r\n" * 15_000 + b"\r\n"),
        ("15,000 names", b"".join(b"%x:\r\n" % number for number in range(9000)) + b"\r\n"),
        ("only line ends", b"\r" * 60_000),
        ("bare line feeds", b"a\n" * 30_000),
        ("a fault at the end", head(b"", HEAD_LIMIT - 60, 98)[:-2] + b"a\r\n\r\n"),
        ("names that Connection names", b"Connection: " + b",".join(b"%x" % n for n in range(1600)) + b"\r\n\r\n"),
        ("many such fields", (b"Connection: " + b"a," * 300 + b"\r\n") * 98 + b"\r\n"),
        ("many protocols", (b"Connection: upgrade\r\nUpgrade: " + b"a," * 600 + b"\r\n") * 45 + b"\r\n"),
        ("many expectations", b"Expect: 100-continue\r\n" * 99 + b"\r\n"),
    ]
]


@pytest.mark.measures
@pytest.mark.parametrize("data", [row[1] for row in LONG], ids=[row[0] for row in LONG])
def test_no_long_head_takes_more_than_3_ms(data: bytes) -> None:
    assert quickest(first_head, data, BOUND) <= BOUND


@pytest.mark.measures
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [LINE_LIMIT, HEAD_LIMIT])
def test_no_head_that_a_search_for_the_slowest_finds_takes_more_than_3_ms(start: bytes, size: int) -> None:
    pieces = [start, *LINES, *FIELDS, *TOKENS, b"a:\r\n", b"a,", b"\r\n\r\n"]
    climb, chance = Climb(pieces, BOUND, size), random.Random(size)
    for _ in range(scaled(5000, 20)):
        climb.step(lambda data: first_head(start + data), chance)
