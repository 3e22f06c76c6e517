"""Invariants of the readers: no cut matters, and what h11 and llhttp also take means the same to all."""

import subprocess
import sys

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.http1 import SHARE, SHARES, fuzz, shares
from fuzz.invariants import INVARIANTS, Events, read_requests, read_responses
from fuzz.mutation import bytewise
from tests.counts import scaled
from tests.serving import ROOT
from tests.wire.recorder import read_by_h11, read_by_llhttp, read_plainly

TOKEN = st.from_regex(rb"\A[A-Za-z0-9!#$%&'*+.^`|~-]{1,8}\Z")
VALUE = st.from_regex(rb"\A[!-~\x80-\xff](?:[ -~\x80-\xff\t]{0,20}[!-~\x80-\xff])?\Z")
TRAILER = st.tuples(st.from_regex(rb"\AX-[A-Za-z0-9]{1,8}\Z"), VALUE)
SPACE = st.sampled_from([b"", b" ", b"\t", b" \t"])
QUOTED = st.binary(max_size=6).map(
    lambda raw: (
        b'"'
        + b"".join(b"\\" + bytes((byte,)) if byte in b'"\\' else bytes((byte,)) for byte in raw if 31 < byte != 127)
        + b'"'
    )
)
FORBIDDEN = (b"content-length", b"transfer-encoding", b"connection", b"host", b"upgrade", b"expect", b"trailer")


@st.composite
def chunk_line(draw: st.DrawFn, size: int) -> bytes:
    """A chunk-size line with any extensions that RFC 9112, section 7.1.1 allows."""
    digits = b"%x" % size
    line = b"0" * draw(st.integers(0, 6)) + (digits.upper() if draw(st.booleans()) else digits)
    for name in draw(st.lists(TOKEN, max_size=2)):
        line += draw(SPACE) + b";" + draw(SPACE) + name
        if draw(st.booleans()):
            line += draw(SPACE) + b"=" + draw(SPACE) + draw(st.one_of(TOKEN, QUOTED))
    return line + b"\r\n"


@st.composite
def chunked(draw: st.DrawFn, *, extensions: bool = True) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """A chunked body as bytes, what it holds, and its trailers."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    raw = b""
    for part in [*parts, b""]:
        raw += draw(chunk_line(len(part))) if extensions else b"%x\r\n" % len(part)
        raw += part + b"\r\n" if part else b""
    trailers = draw(st.lists(TRAILER, max_size=3))
    return raw + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n", b"".join(parts), trailers


def pieces(data: bytes, draw: st.DataObject) -> list[bytes]:
    places = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    cuts = zip([0, *places], [*places, len(data)], strict=True)
    return [data[start:end] for start, end in cuts if start < end]


def body_of(events: Events) -> bytes:
    return b"".join(event for event in events if isinstance(event, bytes))


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /row HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@settings(max_examples=scaled(3000, 20))
@given(chunked(), st.data(), st.sampled_from([b"", b"\n", b"X", b"HTTP/1.1 200 OK\r\n\r\n"]))
def test_any_cut_of_a_chunked_answer_with_trailers_gives_the_same_events(
    generated: tuple[bytes, bytes, list[tuple[bytes, bytes]]], data: st.DataObject, behind: bytes
) -> None:
    raw, body, trailers = generated
    stream = HEAD + raw + behind
    whole = read_responses([stream], [b"GET"])
    assert body_of(whole) == body
    assert ("end", tuple((name.lower(), name, value) for name, value in trailers)) in whole
    assert read_responses(pieces(stream, data), [b"GET"]) == whole
    assert read_responses(bytewise(stream), [b"GET"]) == whole


@settings(max_examples=scaled(3000, 20))
@given(chunked(), st.data(), st.integers(0, 255), st.integers(0, 10_000))
def test_any_cut_of_a_damaged_chunked_body_gives_the_same_events(
    generated: tuple[bytes, bytes, list[tuple[bytes, bytes]]], data: st.DataObject, byte: int, place: int
) -> None:
    raw = bytearray(generated[0])
    raw[place % len(raw)] = byte
    for head, read in ((POST, read_requests), (HEAD, lambda parts: read_responses(parts, [b"GET"]))):
        stream = head + bytes(raw)
        whole = read([stream])
        assert read(pieces(stream, data)) == whole
        assert read(bytewise(stream)) == whole


@settings(max_examples=scaled(3000, 20))
@given(chunked(extensions=False))
def test_a_chunked_request_is_read_as_h11_and_llhttp_read_it(
    generated: tuple[bytes, bytes, list[tuple[bytes, bytes]]],
) -> None:
    raw, body, trailers = generated
    events = read_requests([POST + raw])
    assert body_of(events) == body
    assert events[-2] == ("end", tuple((name.lower(), name, value) for name, value in trailers))
    plain, end = read_plainly(POST + raw)
    assert (plain.body, plain.trailers, end) == (body, trailers, len(POST + raw))
    assert read_by_h11(POST + raw).same(plain)
    assert read_by_llhttp(POST + raw).same(plain)


class _Answer:
    """What llhttp makes of an answer."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_answer_by_h11(data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """Status, fields and body of a whole answer; None where h11 has another opinion."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    peer.send(h11.EndOfMessage())
    body = b""
    try:
        peer.receive_data(data)
        head = peer.next_event()
        while isinstance(event := peer.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if not isinstance(head, h11.Response) or not isinstance(event, h11.EndOfMessage):
        return None
    return head.status_code, list(head.headers), body


FIELD = st.tuples(TOKEN.filter(lambda name: name.lower() not in FORBIDDEN), VALUE)


@settings(max_examples=scaled(3000, 20))
@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    st.from_regex(rb"\A[!-~ \t\x80-\xff]{0,20}\Z"),
    st.lists(FIELD, max_size=6),
    st.one_of(chunked(extensions=False), st.binary(max_size=60)),
)
def test_an_answer_is_read_as_h11_and_llhttp_read_it(
    status: int,
    reason: bytes,
    fields: list[tuple[bytes, bytes]],
    content: bytes | tuple[bytes, bytes, list[tuple[bytes, bytes]]],
) -> None:
    raw, body = (content, content) if isinstance(content, bytes) else content[:2]
    framing = (
        (b"Content-Length", b"%d" % len(raw)) if isinstance(content, bytes) else (b"Transfer-Encoding", b"chunked")
    )
    lines = [b"%b: %b\r\n" % field for field in [*fields, framing]]
    data = b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, reason, b"".join(lines), raw)
    head, *rest = read_responses([data], [b"GET"])
    assert isinstance(head, tuple)
    assert body_of(rest) == body
    read = [(lower, value) for lower, _, value in head[3]]
    assert read_answer_by_h11(data) == (head[0], read, body)
    answer = _Answer()
    httptools.HttpResponseParser(answer).feed_data(data)
    assert (answer.body, answer.complete) == (body, True)


@settings(max_examples=scaled(5000, 20))
@given(st.binary(max_size=300), st.sampled_from([b"GET", b"HEAD"]))
def test_only_the_response_reader_s_own_error_escapes(data: bytes, method: bytes) -> None:
    for stream in (data, b"HTTP/1.1 200 OK\r\n" + data, HEAD + data):
        assert isinstance(read_responses([stream], [method]), list)


@pytest.mark.parametrize("name", sorted(INVARIANTS))
def test_a_short_run_of_the_fuzzer_finds_nothing(name: str) -> None:
    fuzz(name, scaled(20_000, 20) * SHARES.get(name, SHARE) // SHARE, seed=1)


LEAKING = """
import sys
from fuzz import http1
kept = []
http1.INVARIANTS["targets"] = lambda chance: kept.append(b"x" * int(sys.argv[1]))
http1.main(["--target", "targets", "--count", "3000"])
"""


@pytest.mark.parametrize(
    ("kept", "said"),
    [(10_000, "the peak of memory grew by 8"), (0, "targets: 3000 inputs")],
)
def test_the_fuzzer_fails_where_memory_grows(kept: int, said: str) -> None:
    # In a process of its own: the peak of this one may be anywhere.
    done = subprocess.run(
        [sys.executable, "-c", LEAKING, str(kept)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said in done.stdout + done.stderr
    assert done.returncode == (1 if kept else 0)


def test_the_fuzzer_shares_all_of_its_inputs_out() -> None:
    shared = shares([*INVARIANTS, "gateway"], 1_000_000)
    assert shared.keys() == {*INVARIANTS, "gateway"}
    assert sum(shared.values()) >= 1_000_000
    assert shared["gateway"] < shared["requests"] / 50
    assert shares(["gateway"], 7) == {"gateway": 7}
