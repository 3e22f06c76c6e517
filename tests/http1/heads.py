"""Heads that are right and heads that are not, and what both ways of reading make of them."""

from collections.abc import Iterable

from fuzz.agreement import METHODS, OFFERS, Outcome, requests_agree, responses_agree
from tests.counts import LONG

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

LINES = [data[: data.find(b"\r\n", 2) + 2] for data in (*REQUESTS, *ANSWERS)]
FIELDS = sorted(
    {line + b"\r\n" for data in (*REQUESTS, *REFUSED_REQUESTS, *ANSWERS) for line in data.split(b"\r\n")[1:]}
)


def ways(data: bytes, places: Iterable[int]) -> list[Outcome]:
    """What these bytes are, cut into two at each of these places: as a request, or as the answer to each that may have
    been sent."""
    cuts = [(data[:place], data[place:]) for place in places]
    if data.startswith(b"HTTP"):
        return [responses_agree(data, cuts, method, offer) for method in METHODS for offer in OFFERS]
    return [requests_agree(data, cuts)]


def refused(outcome: Outcome) -> bool:
    """Whether it ends with a status and why, and not with what is behind the head."""
    return isinstance(outcome[-1], tuple)


def taken(outcome: Outcome) -> bool:
    """Whether a head was read, and all was well."""
    return len(outcome) > 1 and not refused(outcome)


def everywhere(data: bytes) -> range:
    """All places at which some bytes can be cut into two."""
    return range(len(data) + 1)


def cut_at(data: bytes, *near: int) -> Iterable[int]:
    """The same with `make test-long`; else the places that are near what is odd."""
    return everywhere(data) if LONG else near
